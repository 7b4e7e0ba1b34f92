{{/*
The environment variables of files/options.json, in the words of the controller's own option table; what it
would refuse is refused here, all faults together.
*/}}
{{- define "node-termination-controller.optionEnv" -}}
{{- $faults := list -}}
{{- $env := list -}}
{{- $given := dict -}}
{{- range $option := .Files.Get "files/options.json" | fromJsonArray -}}
{{- $text := include "node-termination-controller.text" (index $.Values.controller .key) -}}
{{- if eq .key "leaseName" -}}
{{- $text = include "node-termination-controller.leaseName" $ -}}
{{- end -}}
{{- $_ := set $given .key $text -}}
{{- if and $text .pattern (not (regexMatch .pattern $text)) -}}
{{- $faults = append $faults (printf "controller.%s is %s: it takes %s." .key (ternary "given a value that is not shown here" (quote $text) .secret) .takes) -}}
{{- else if $text -}}
{{- if .reservedNames -}}
{{- range $name, $_ := fromJson $text -}}
{{- if has (lower $name) $option.reservedNames -}}
{{- $faults = append $faults (printf "controller.%s has %s in it, which is not for it to set." $option.key $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $env = append $env (dict "name" .variable "value" $text) -}}
{{- else if .required -}}
{{- $faults = append $faults (printf "controller.%s is missing: it takes %s." .key .takes) -}}
{{- else if and .queueUrlPattern $given.queueUrl (not (regexMatch .queueUrlPattern $given.queueUrl)) -}}
{{- $faults = append $faults (printf "controller.%s is missing, and controller.queueUrl does not tell it: it takes %s." .key .takes) -}}
{{- end -}}
{{- end -}}
{{- with .Values.webhook -}}
{{- $url := or $given.webhookUrl .existingSecret -}}
{{- if and $given.webhookUrl .existingSecret -}}
{{- $faults = append $faults "controller.webhookUrl and webhook.existingSecret are both given: one URL is enough." -}}
{{- end -}}
{{- $templates := list -}}
{{- range $name, $text := dict "controller.webhookTemplate" $given.webhookTemplate "controller.webhookTemplateFile" $given.webhookTemplateFile "webhook.template" .template "webhook.templateConfigMap" .templateConfigMap -}}
{{- if $text -}}
{{- $templates = append $templates $name -}}
{{- end -}}
{{- end -}}
{{- if gt (len $templates) 1 -}}
{{- $faults = append $faults (printf "%s are given: one template is enough." (join " and " (sortAlpha $templates))) -}}
{{- else if and $templates (not $url) -}}
{{- $faults = append $faults (printf "%s is given, but neither controller.webhookUrl nor webhook.existingSecret is." (first $templates)) -}}
{{- end -}}
{{- range $name, $_ := fromJson (default "{}" $given.webhookHeaders) -}}
{{- if and (eq (lower $name) "content-type") (not $templates) -}}
{{- $faults = append $faults (printf "controller.webhookHeaders has %s in it, but without a template a message is a CloudEvent, which says itself what it is." $name) -}}
{{- end -}}
{{- end -}}
{{- range $value, $key := dict "webhookHeaders" .headersKey "webhookSecret" .signingKey "webhookIntegrationKey" .integrationKey -}}
{{- if and (index $given $value) $key -}}
{{- $faults = append $faults (printf "controller.%s is given, and is in the Secret, too: once is enough." $value) -}}
{{- else if and (or (index $given $value) $key) (not $url) -}}
{{- $faults = append $faults (printf "controller.%s is given, but neither controller.webhookUrl nor webhook.existingSecret is." $value) -}}
{{- else if and $key (not $.Values.webhook.existingSecret) -}}
{{- $faults = append $faults (printf "A key for controller.%s is given, but webhook.existingSecret is not." $value) -}}
{{- end -}}
{{- end -}}
{{- $integrationKey := or $given.webhookIntegrationKey .integrationKey -}}
{{- if .template -}}
{{- $usesKey := contains "integrationKey" ($.Files.Get (printf "files/webhook/%s.liquid" .template)) -}}
{{- if and $usesKey (not $integrationKey) -}}
{{- $faults = append $faults (printf "webhook.template is %q, which has the receiver's key in it, but neither controller.webhookIntegrationKey nor webhook.integrationKey is given." .template) -}}
{{- else if and $integrationKey (not $usesKey) -}}
{{- $faults = append $faults (printf "controller.webhookIntegrationKey is given, but the template %s does not use it." .template) -}}
{{- end -}}
{{- else if and $integrationKey (not $templates) -}}
{{- $faults = append $faults "controller.webhookIntegrationKey is given, but no template that uses it." -}}
{{- end -}}
{{- if .existingSecret -}}
{{- range $variable, $key := dict "WEBHOOK_URL" .urlKey "WEBHOOK_HEADERS" .headersKey "WEBHOOK_SECRET" .signingKey "WEBHOOK_INTEGRATION_KEY" .integrationKey -}}
{{- if $key -}}
{{- $env = append $env (dict "name" $variable "valueFrom" (dict "secretKeyRef" (dict "name" $.Values.webhook.existingSecret "key" $key))) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if .template -}}
{{- $env = append $env (dict "name" "WEBHOOK_TEMPLATE" "value" ($.Files.Get (printf "files/webhook/%s.liquid" .template))) -}}
{{- else if .templateConfigMap -}}
{{- $env = append $env (dict "name" "WEBHOOK_TEMPLATE" "valueFrom" (dict "configMapKeyRef" (dict "name" .templateConfigMap "key" .templateKey))) -}}
{{- end -}}
{{- end -}}
{{- if and (not .Values.controller.leaderElection) (not .Values.controller.dryRun) (gt (int .Values.replicaCount) 1) -}}
{{- $faults = append $faults (printf "replicaCount is %d, but controller.leaderElection is false: without a Lease to agree by, one replica at most may run." (int .Values.replicaCount)) -}}
{{- end -}}
{{- if and .Values.serviceMonitor.create (not .Values.service.create) -}}
{{- $faults = append $faults "serviceMonitor.create is true, but service.create is false: it has nothing to scrape. A podMonitor needs no Service." -}}
{{- end -}}
{{- if $faults -}}
{{- fail (printf "\n%s" (join "\n" $faults)) -}}
{{- end -}}
{{- toYaml $env -}}
{{- end -}}
