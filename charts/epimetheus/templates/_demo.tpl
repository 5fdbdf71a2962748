{{/* The companions of the demo: small, restricted, replaceable. */}}

{{- define "epi.demo.podSecurity" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ . }}
  runAsGroup: {{ . }}
  fsGroup: {{ . }}
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "epi.demo.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{/* (dict "root" $ "name" "alertmanager" "port" 9093 "portName" "http" "monitored" true "app" "" "headless" true) */}}
{{- define "epi.demo.service" -}}
apiVersion: v1
kind: Service
metadata:
  {{- $labels := dict -}}
  {{- if .monitored }}{{ $labels = include "epi.monitorLabels" .root | fromYaml }}{{ end }}
  {{- with .app }}{{ $_ := set $labels "app.kubernetes.io/name" . }}{{ end }}
  {{- include "epi.metadata" (dict "root" .root "name" (include "epi.fullnameOf" (list .root .name)) "component" .name "labels" (list $labels)) | nindent 2 }}
spec:
  type: ClusterIP
  {{- if .headless }}
  clusterIP: None
  {{- end }}
  ports:
    - name: {{ .portName }}
      port: {{ .port }}
      targetPort: {{ .portName }}
      protocol: TCP
  selector:
    {{- include "epi.selector" (dict "root" .root "component" .name) | nindent 4 }}
{{- end -}}

{{- define "epi.demo.metadata" -}}
{{- include "epi.metadata" (dict "root" (index . 0) "name" (include "epi.fullnameOf" .) "component" (index . 1)) -}}
{{- end -}}

{{/* selector and template head: (list $ "alertmanager" checksum) */}}
{{- define "epi.demo.template" -}}
selector:
  matchLabels:
    {{- include "epi.selector" (dict "root" (index . 0) "component" (index . 1)) | nindent 4 }}
template:
  metadata:
    labels:
      {{- include "epi.labels" (dict "root" (index . 0) "component" (index . 1)) | nindent 6 }}
    annotations:
      checksum/configuration: {{ index . 2 | sha256sum }}
{{- end -}}
