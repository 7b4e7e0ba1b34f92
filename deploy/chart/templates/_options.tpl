{{/*
The environment variables of files/options.json, in the words of the controller's own option table; what it
would refuse is refused here, all faults together.
*/}}
{{- define "node-termination-controller.optionEnv" -}}
{{- $faults := list -}}
{{- $env := list -}}
{{- $given := dict -}}
{{- range .Files.Get "files/options.json" | fromJsonArray -}}
{{- $text := include "node-termination-controller.text" (index $.Values.controller .key) -}}
{{- if eq .key "leaseName" -}}
{{- $text = include "node-termination-controller.leaseName" $ -}}
{{- end -}}
{{- $_ := set $given .key $text -}}
{{- if and $text .pattern (not (regexMatch .pattern $text)) -}}
{{- $faults = append $faults (printf "controller.%s is %s: it takes %s." .key (quote $text) .takes) -}}
{{- else if $text -}}
{{- $env = append $env (dict "name" .variable "value" $text) -}}
{{- else if .required -}}
{{- $faults = append $faults (printf "controller.%s is missing: it takes %s." .key .takes) -}}
{{- else if and .queueUrlPattern $given.queueUrl (not (regexMatch .queueUrlPattern $given.queueUrl)) -}}
{{- $faults = append $faults (printf "controller.%s is missing, and controller.queueUrl does not tell it: it takes %s." .key .takes) -}}
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
