{{/* How many pods, and how many may be away: (dict "root" $ "c" component) */}}

{{- define "epi.hpa" -}}
{{- $root := .root -}}{{- $c := .c -}}{{- $a := $c.autoscaling -}}
{{- if $a.enabled }}
{{- if eq $c.key "compactor" }}{{ fail "compactor.autoscaling: the chart runs one compactor; leave it off" }}{{ end }}
{{- if not (or $a.targetCPU $a.targetMemory $a.targetPodMetrics) }}
{{- fail (printf "%s.autoscaling.enabled needs targetCPU, targetMemory or targetPodMetrics" $c.key) }}
{{- end }}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "epi.metadata" (dict "root" $root "name" $c.fullname "component" $c.component) | nindent 2 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: {{ $c.kind }}
    name: {{ $c.fullname }}
  minReplicas: {{ int (default 1 $a.minReplicas) }}
  maxReplicas: {{ int (default 3 $a.maxReplicas) }}
  metrics:
    {{- range list (list "memory" $a.targetMemory) (list "cpu" $a.targetCPU) }}
    {{- if index . 1 }}
    {{- if $c.sidecars }}
    - type: ContainerResource
      containerResource:
        container: {{ default $c.component $c.containerName }}
        name: {{ index . 0 }}
        target:
          type: Utilization
          averageUtilization: {{ index . 1 | int }}
    {{- else }}
    - type: Resource
      resource:
        name: {{ index . 0 }}
        target:
          type: Utilization
          averageUtilization: {{ index . 1 | int }}
    {{- end }}
    {{- end }}
    {{- end }}
    {{- range $a.targetPodMetrics }}
    - type: Pods
      pods:
        metric:
          name: {{ .name }}
        target:
          type: AverageValue
          averageValue: {{ .averageValue | toString | quote }}
    {{- end }}
  {{- with $a.behavior }}
  behavior:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
{{- end -}}

{{- define "epi.pdb" -}}
{{- $root := .root -}}{{- $c := .c -}}
{{- if and $c.pdb.create (ne $c.kind "CronJob") }}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "epi.metadata" (dict "root" $root "name" $c.fullname "component" $c.component) | nindent 2 }}
spec:
  {{- if $c.pdb.minAvailable }}
  minAvailable: {{ $c.pdb.minAvailable }}
  {{- end }}
  {{- if or $c.pdb.maxUnavailable (not $c.pdb.minAvailable) }}
  maxUnavailable: {{ default 1 $c.pdb.maxUnavailable }}
  {{- end }}
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "epi.selector" (dict "root" $root "component" $c.component "extra" (list $c.podLabels)) | nindent 6 }}
{{- end -}}
{{- end -}}
