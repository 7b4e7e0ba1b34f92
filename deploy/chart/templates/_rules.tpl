{{/* Made by `npm run docs`: change the tables in scripts/chart and src/options.ts. */}}

{{- define "node-termination-controller.clusterRules" -}}
# list: the index of nodes, by which an instance is found: filled at start
# watch: the index of nodes is kept true
# get: a Node that somebody else has changed meanwhile is read before it is written again
- apiGroups: [""]
  resources: [nodes]
  verbs: [list, watch, get]
{{- if and (not .Values.controller.dryRun) }}
# patch: marks and journal: taint, cordon, labels, annotation, in one write
- apiGroups: [""]
  resources: [nodes]
  verbs: [patch]
{{- end }}
# list: the pods of a node that is being emptied
# watch: the departure of pods, while any node is being emptied
# get: a pod whose eviction met with a conflict: is it still the same one?
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, get]
{{- if and (not .Values.controller.dryRun) }}
# delete: a pod that its budget still holds when it must end; a shorter grace for one that is ending
- apiGroups: [""]
  resources: [pods]
  verbs: [delete]
{{- end }}
{{- if and (not .Values.controller.dryRun) }}
# create: the eviction of a pod
- apiGroups: [""]
  resources: [pods/eviction]
  verbs: [create]
{{- end }}
{{- if and (not .Values.controller.dryRun) .Values.controller.kubernetesEvents }}
# create: events on Nodes and Pods, for kubectl describe
# patch: how often the same was told: the series of an event
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}
{{- if and (not .Values.controller.dryRun) .Values.controller.waitForVolumes }}
# get: the volume behind an evicted pod's claim
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get]
{{- end }}
{{- if and (not .Values.controller.dryRun) .Values.controller.waitForVolumes }}
# list: whether that volume is still attached
- apiGroups: [storage.k8s.io]
  resources: [volumeattachments]
  verbs: [list]
{{- end }}
{{- end -}}

{{- define "node-termination-controller.nodeLeaseRules" -}}
# get: a kubelet's sign of life: a machine that outlived its deadline is not drained for old news
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [get]
{{- end -}}

{{- define "node-termination-controller.ownRules" -}}
{{- if and (not .Values.controller.dryRun) .Values.controller.leaderElection }}
# get: the Lease is read before it is taken
# list: the Lease is followed: where it stands
# watch: the Lease is followed: what becomes of it
# update: the Lease is taken, renewed and, on stop, emptied
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [{{ include "node-termination-controller.leaseName" . }}]
  verbs: [get, list, watch, update]
{{- end }}
{{- if and (not .Values.controller.dryRun) .Values.controller.leaderElection }}
# create: a Lease that somebody has deleted is made again (a creation cannot be narrowed to a name)
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
{{- end }}
{{- end -}}
