{{/* Services. Port 9090 for people and programs, gRPC by name and headless, so that every pod is seen. */}}

{{/* One Service with an address: (dict "root" $ "c" component "s" service "name" n "ports" (list "http" "grpc") "labels" (list)) */}}
{{- define "epi.service" -}}
{{- $root := .root -}}{{- $c := .c -}}{{- $s := .s -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "epi.metadata" (dict "root" $root "name" .name "component" $c.component "labels" (prepend (default (list) .labels) $s.labels) "annotations" (list $s.annotations)) | nindent 2 }}
spec:
  type: {{ $s.type }}
  {{- if and $s.clusterIP (eq $s.type "ClusterIP") }}
  clusterIP: {{ $s.clusterIP | quote }}
  {{- end }}
  {{- if ne $s.type "ClusterIP" }}
  externalTrafficPolicy: {{ $s.externalTrafficPolicy }}
  {{- end }}
  {{- if eq $s.type "LoadBalancer" }}
  {{- with $s.loadBalancerIP }}
  loadBalancerIP: {{ . | quote }}
  {{- end }}
  {{- with $s.loadBalancerSourceRanges }}
  loadBalancerSourceRanges:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  {{- with $s.ipFamilyPolicy }}
  ipFamilyPolicy: {{ . }}
  {{- end }}
  {{- with $s.ipFamilies }}
  ipFamilies:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- include "epi.trafficDistribution" . | indent 2 }}
  ports:
    {{- range .ports }}
    - name: {{ . }}
      port: {{ get $s.ports . | int }}
      targetPort: {{ . }}
      protocol: TCP
      {{- if eq . "grpc" }}
      appProtocol: grpc
      {{- end }}
      {{- if and (ne $s.type "ClusterIP") (get $s.nodePorts .) }}
      nodePort: {{ get $s.nodePorts . | int }}
      {{- end }}
    {{- end }}
    {{- with $s.extraPorts }}
    {{- include "epi.tpl" (dict "v" . "root" $root) | nindent 4 }}
    {{- end }}
  selector:
    {{- include "epi.service.selector" . | nindent 4 }}
{{- end -}}

{{- define "epi.service.selector" -}}
{{- if .s.labelSelectorsOverride -}}
{{- include "epi.tpl" (dict "v" .s.labelSelectorsOverride "root" .root) -}}
{{- else -}}
{{- include "epi.selector" (dict "root" .root "component" .c.component "extra" (list .c.podLabels)) -}}
{{- end -}}
{{- end -}}

{{- define "epi.trafficDistribution" -}}
{{- $want := default "auto" .s.trafficDistribution -}}
{{- $version := include "epi.kubeVersion" .root -}}
{{- if eq $want "auto" -}}
{{- $want = "none" -}}
{{- if semverCompare ">=1.34.0-0" $version -}}{{- $want = "PreferSameZone" -}}
{{- else if semverCompare ">=1.31.0-0" $version -}}{{- $want = "PreferClose" -}}
{{- end -}}
{{- end -}}
{{- if ne $want "none" }}
trafficDistribution: {{ $want }}
{{- end -}}
{{- end -}}

{{/* One Service without an address: (dict "root" $ "c" component "s" service "name" n "ports" (list "grpc")) */}}
{{- define "epi.headless" -}}
{{- $root := .root -}}{{- $c := .c -}}{{- $s := .s -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "epi.metadata" (dict "root" $root "name" .name "component" $c.component "annotations" (list $s.headless.annotations)) | nindent 2 }}
spec:
  type: ClusterIP
  clusterIP: None
  {{- if eq $c.kind "StatefulSet" }}
  publishNotReadyAddresses: true
  {{- end }}
  ports:
    {{- range .ports }}
    - name: {{ . }}
      port: {{ get $s.ports . | int }}
      targetPort: {{ . }}
      protocol: TCP
      {{- if eq . "grpc" }}
      appProtocol: grpc
      {{- end }}
    {{- end }}
  selector:
    {{- include "epi.service.selector" . | nindent 4 }}
{{- end -}}
