{{/* Deployment, StatefulSet or CronJob of a component: (dict "root" $ "c" component) */}}

{{- define "epi.workload" -}}
{{- $root := .root -}}{{- $c := .c -}}
{{- $selector := include "epi.selector" (dict "root" $root "component" $c.component "extra" (list $c.podLabels)) -}}
{{- $extraLabels := ternary $c.statefulsetLabels (dict) (eq $c.kind "StatefulSet") -}}
{{- $extraAnnotations := ternary $c.statefulsetAnnotations $c.deploymentAnnotations (eq $c.kind "StatefulSet") -}}
{{- if eq $c.kind "CronJob" }}
apiVersion: batch/v1
{{- else }}
apiVersion: apps/v1
{{- end }}
kind: {{ $c.kind }}
metadata:
  {{- include "epi.metadata" (dict "root" $root "name" $c.fullname "component" $c.component "labels" (list $extraLabels) "annotations" (list $extraAnnotations)) | nindent 2 }}
spec:
  {{- if eq $c.kind "CronJob" }}
  {{- include "epi.cronSpec" . | nindent 2 }}
  {{- else }}
  {{- if eq $c.key "compactor" }}
  replicas: 1
  {{- else if not (or $c.autoscaling.enabled $c.externalAutoscaler) }}
  replicas: {{ int $c.replicaCount }}
  {{- end }}
  revisionHistoryLimit: {{ int $c.revisionHistoryLimit }}
  {{- with int $c.minReadySeconds }}
  minReadySeconds: {{ . }}
  {{- end }}
  {{- if eq $c.kind "StatefulSet" }}
  serviceName: {{ $c.fullname }}-headless
  podManagementPolicy: {{ $c.podManagementPolicy }}
  {{- end }}
  {{- with $c.updateStrategy }}
  {{ ternary "updateStrategy" "strategy" (eq $c.kind "StatefulSet") }}:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  selector:
    matchLabels:
      {{- $selector | nindent 6 }}
  template:
    {{- include "epi.podTemplate" . | nindent 4 }}
  {{- if and (eq $c.kind "StatefulSet") $c.persistence.enabled (not $c.persistence.existingClaim) }}
  {{- if $c.persistentVolumeClaimRetentionPolicy.enabled }}
  persistentVolumeClaimRetentionPolicy:
    {{- omit $c.persistentVolumeClaimRetentionPolicy "enabled" | toYaml | nindent 4 }}
  {{- end }}
  volumeClaimTemplates:
    - apiVersion: v1
      kind: PersistentVolumeClaim
      metadata:
        name: data
        {{- with $c.persistence.labels }}
        labels:
          {{- include "epi.tpl" (dict "v" . "root" $root) | nindent 10 }}
        {{- end }}
        {{- with $c.persistence.annotations }}
        annotations:
          {{- include "epi.tpl" (dict "v" . "root" $root) | nindent 10 }}
        {{- end }}
      spec:
        {{- include "epi.claimSpec" . | nindent 8 }}
  {{- end }}
  {{- end }}
{{- end -}}

{{- define "epi.cronSpec" -}}
{{- $job := .c.cronJob -}}
schedule: {{ $job.schedule | quote }}
{{- range $key := list "timeZone" "startingDeadlineSeconds" "concurrencyPolicy" "suspend" "successfulJobsHistoryLimit" "failedJobsHistoryLimit" }}
{{- if not (eq (toString (get $job $key)) "") }}
{{ $key }}: {{ get $job $key | toJson }}
{{- end }}
{{- end }}
jobTemplate:
  spec:
    {{- range $key := list "backoffLimit" "activeDeadlineSeconds" "ttlSecondsAfterFinished" }}
    {{- if not (eq (toString (get $job $key)) "") }}
    {{ $key }}: {{ get $job $key | toJson }}
    {{- end }}
    {{- end }}
    template:
      {{- include "epi.podTemplate" . | nindent 6 }}
{{- end -}}

{{- define "epi.claim" -}}
{{- $c := .c -}}
{{- if and (eq $c.key "compactor") $c.persistence.enabled (not $c.persistence.existingClaim) (not $c.persistence.ephemeral) }}
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  {{- include "epi.metadata" (dict "root" .root "name" $c.fullname "component" $c.component "labels" (list $c.persistence.labels) "annotations" (list $c.persistence.annotations)) | nindent 2 }}
spec:
  {{- include "epi.claimSpec" . | nindent 2 }}
{{- end -}}
{{- end -}}
