{{/* prometheus.yml of the server: (dict "root" $ "c" component). Jobs and labels are those that Prometheus' operator and
     kube-prometheus-stack give, so that their dashboards and rules find what they look for. */}}

{{/* The keys of the server's ConfigMap. */}}
{{- define "epi.server.files" -}}
{{- $root := .root -}}
prometheus.yml: {{ (default (include "epi.server.config" .) (include "epi.tpl" (dict "v" .c.config "root" $root))) | toJson }}
{{- if not .c.config }}
{{- with include "epi.rules" $root | fromYaml }}
mixin.rules.yml: {{ toYaml . | toJson }}
{{- end }}
{{- range $name, $text := .c.rules }}
{{ $name | trimSuffix ".yml" | trimSuffix ".yaml" | trimSuffix ".rules" }}.rules.yml: {{ include "epi.tpl" (dict "v" $text "root" $root) | toJson }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "epi.server.config" -}}
{{- $root := .root -}}{{- $c := .c -}}{{- $k := $c.kubernetes -}}
global:
  scrape_interval: {{ $c.scrapeInterval }}
  evaluation_interval: {{ $c.evaluationInterval }}
  external_labels:
    prometheus: {{ printf "%s/%s" $root.Release.Namespace (include "epi.fullname" $root) }}
    prometheus_replica: ${POD_NAME}
    {{- range $name, $value := $c.externalLabels }}
    {{ $name }}: {{ $value | toString | quote }}
    {{- end }}
rule_files: ["/conf/prometheus/*.rules.yml"]
{{- $hosts := include "epi.serverAlertmanagers" $root | fromJsonArray }}
{{- if or $hosts $c.alertmanagerConfigs }}
alerting:
  alert_relabel_configs:
    - {regex: prometheus_replica, action: labeldrop}
  alertmanagers:
    {{- with $hosts }}
    - static_configs:
        - targets: {{ toJson . }}
    {{- end }}
    {{- with $c.alertmanagerConfigs }}
    {{- include "epi.tpl" (dict "v" . "root" $root) | nindent 4 }}
    {{- end }}
{{- end }}
scrape_configs:
  {{- if $k.enabled }}
  {{- include "epi.scrape.own" . | nindent 2 }}
  {{- if not $k.namespaces }}
  {{- if $k.apiserver }}{{ include "epi.scrape.apiserver" . | nindent 2 }}{{ end }}
  {{- if $k.kubelet }}{{ include "epi.scrape.kubelet" . | nindent 2 }}{{ end }}
  {{- if $k.coredns }}{{ include "epi.scrape.coredns" . | nindent 2 }}{{ end }}
  {{- end }}
  {{- if $k.kubeStateMetrics }}{{ include "epi.scrape.named" (dict "k" $k "job" "kube-state-metrics" "apps" "kube-state-metrics" "ports" "http|http-metrics|main" "honor" true) | nindent 2 }}{{ end }}
  {{- if $k.nodeExporter }}{{ include "epi.scrape.named" (dict "k" $k "job" "node-exporter" "apps" "node-exporter|prometheus-node-exporter" "ports" "http-metrics|metrics|https") | nindent 2 }}{{ end }}
  {{- if $k.annotatedServices }}{{ include "epi.scrape.annotatedServices" . | nindent 2 }}{{ end }}
  {{- if $k.annotatedPods }}{{ include "epi.scrape.annotatedPods" . | nindent 2 }}{{ end }}
  {{- else }}
  - job_name: {{ $c.fullname }}
    static_configs:
      - targets: ["localhost:{{ int $c.containerPorts.http }}"]
  {{- end }}
  {{- with $c.extraScrapeConfigs }}
  {{- include "epi.tpl" (dict "v" . "root" $root) | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* kubernetes_sd_configs: (dict "role" "endpointslice" "namespaces" (list)) */}}
{{- define "epi.scrape.sd" -}}
kubernetes_sd_configs:
  - role: {{ .role }}
    {{- with .namespaces }}
    namespaces: {names: {{ toJson . }}}
    {{- end }}
{{- end -}}

{{/* What the pods present themselves with to the API server and the kubelets. */}}
{{- define "epi.scrape.account" -}}
scheme: https
authorization:
  credentials_file: /var/run/secrets/kubernetes.io/serviceaccount/token
{{- end -}}

{{/* Labels of a target behind a Service, as the operator sets them. */}}
{{- define "epi.scrape.serviceLabels" -}}
- source_labels: [__meta_kubernetes_endpointslice_address_target_kind, __meta_kubernetes_endpointslice_address_target_name]
  regex: Node;(.*)
  target_label: node
- source_labels: [__meta_kubernetes_namespace]
  target_label: namespace
- source_labels: [__meta_kubernetes_service_name]
  target_label: service
- source_labels: [__meta_kubernetes_pod_name]
  target_label: pod
- source_labels: [__meta_kubernetes_pod_container_name]
  target_label: container
- source_labels: [__meta_kubernetes_pod_phase]
  regex: (Failed|Succeeded)
  action: drop
- source_labels: [__meta_kubernetes_endpointslice_port_name]
  target_label: endpoint
{{- end -}}

{{/* The release's own pods: job = Service, so that up{container="query"} finds the queriers. */}}
{{- define "epi.scrape.own" -}}
{{- $root := .root -}}
- job_name: {{ include "epi.fullname" $root }}
  {{- if $root.Values.https.enabled }}
  scheme: https
  tls_config: {insecure_skip_verify: true}
  {{- end }}
  {{- include "epi.scrape.sd" (dict "role" "endpointslice" "namespaces" (list $root.Release.Namespace)) | nindent 2 }}
  relabel_configs:
    - source_labels: [__meta_kubernetes_service_label_app_kubernetes_io_instance, __meta_kubernetes_service_label_prometheus_operator_monitor, __meta_kubernetes_endpointslice_port_name]
      regex: {{ $root.Release.Name }};true;http
      action: keep
    {{- include "epi.scrape.serviceLabels" . | nindent 4 }}
    - source_labels: [__meta_kubernetes_service_name]
      target_label: job
{{- end -}}

{{- define "epi.scrape.apiserver" -}}
- job_name: apiserver
  {{- include "epi.scrape.account" . | nindent 2 }}
  tls_config:
    ca_file: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt
    server_name: kubernetes
  {{- include "epi.scrape.sd" (dict "role" "endpointslice" "namespaces" (list "default")) | nindent 2 }}
  relabel_configs:
    - source_labels: [__meta_kubernetes_service_name, __meta_kubernetes_endpointslice_port_name]
      regex: kubernetes;https
      action: keep
    {{- include "epi.scrape.serviceLabels" . | nindent 4 }}
{{- end -}}

{{- define "epi.scrape.kubelet" -}}
{{- $root := .root -}}
{{- range list (list "kubelet" "/metrics") (list "kubelet/cadvisor" "/metrics/cadvisor") (list "kubelet/probes" "/metrics/probes") }}
- job_name: {{ index . 0 }}
  honor_labels: true
  {{- if eq (index . 1) "/metrics/cadvisor" }}
  track_timestamps_staleness: true
  {{- end }}
  metrics_path: {{ index . 1 }}
  {{- include "epi.scrape.account" $root | nindent 2 }}
  tls_config:
    ca_file: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt
    insecure_skip_verify: true # kubelets sign their own certificates
  {{- include "epi.scrape.sd" (dict "role" "node") | nindent 2 }}
  relabel_configs:
    - {target_label: job, replacement: kubelet}
    - {target_label: endpoint, replacement: https-metrics}
    - {target_label: namespace, replacement: kube-system}
    - {target_label: service, replacement: kubelet}
    - source_labels: [__meta_kubernetes_node_name]
      target_label: node
    - source_labels: [__metrics_path__]
      target_label: metrics_path
{{- end }}
{{- end -}}

{{- define "epi.scrape.coredns" -}}
- job_name: coredns
  {{- include "epi.scrape.sd" (dict "role" "endpointslice" "namespaces" (list "kube-system")) | nindent 2 }}
  relabel_configs:
    - source_labels: [__meta_kubernetes_service_label_k8s_app, __meta_kubernetes_endpointslice_port_name]
      regex: (kube-dns|coredns);(metrics|http-metrics)
      action: keep
    {{- include "epi.scrape.serviceLabels" . | nindent 4 }}
{{- end -}}

{{/* An exporter by the name of its Service: (dict "k" kubernetes "job" "node-exporter" "apps" "a|b" "ports" "x|y" "honor" true) */}}
{{- define "epi.scrape.named" -}}
- job_name: {{ .job }}
  {{- if .honor }}
  honor_labels: true
  {{- end }}
  {{- include "epi.scrape.sd" (dict "role" "endpointslice" "namespaces" .k.namespaces) | nindent 2 }}
  relabel_configs:
    - source_labels: [__meta_kubernetes_service_label_app_kubernetes_io_name, __meta_kubernetes_endpointslice_port_name]
      regex: ({{ .apps }});({{ .ports }})
      action: keep
    {{- include "epi.scrape.serviceLabels" . | nindent 4 }}
{{- end -}}

{{/* What the annotations prometheus.io/scheme, path, port and param_* say: "service" or "pod" */}}
{{- define "epi.scrape.annotations" -}}
- source_labels: [__meta_kubernetes_{{ . }}_annotation_prometheus_io_scrape]
  regex: "true"
  action: keep
- source_labels: [__meta_kubernetes_{{ . }}_annotation_prometheus_io_scheme]
  regex: (https?)
  target_label: __scheme__
- source_labels: [__meta_kubernetes_{{ . }}_annotation_prometheus_io_path]
  regex: (.+)
  target_label: __metrics_path__
- source_labels: [__address__, __meta_kubernetes_{{ . }}_annotation_prometheus_io_port]
  regex: (.+?)(?::\d+)?;(\d+)
  replacement: $1:$2
  target_label: __address__
- regex: __meta_kubernetes_{{ . }}_annotation_prometheus_io_param_(.+)
  replacement: __param_$1
  action: labelmap
{{- end -}}

{{/* An address is discovered once for each of its ports. Where the annotation names the port, all of them are one target, as soon as
     no label tells them apart: "service" or "pod" */}}
{{- define "epi.scrape.onePort" -}}
{{- range list "endpoint" "container" }}
- source_labels: [__meta_kubernetes_{{ $ }}_annotation_prometheus_io_port]
  regex: \d+
  target_label: {{ . }}
  replacement: ""
{{- end }}
{{- end -}}

{{- define "epi.scrape.annotatedServices" -}}
- job_name: kubernetes-service-endpoints
  honor_labels: true
  {{- include "epi.scrape.sd" (dict "role" "endpointslice" "namespaces" .c.kubernetes.namespaces) | nindent 2 }}
  relabel_configs:
    {{- include "epi.scrape.annotations" "service" | nindent 4 }}
    {{- $k := .c.kubernetes }}
    {{- if and $k.coredns (not $k.namespaces) }}
    - source_labels: [__meta_kubernetes_namespace, __meta_kubernetes_service_label_k8s_app]
      regex: kube-system;(kube-dns|coredns) # has a job of its own, and these annotations
      action: drop
    {{- end }}
    {{- range list (list $k.kubeStateMetrics "kube-state-metrics") (list $k.nodeExporter "node-exporter|prometheus-node-exporter") }}
    {{- if index . 0 }}
    - source_labels: [__meta_kubernetes_service_label_app_kubernetes_io_name]
      regex: {{ index . 1 }}
      action: drop
    {{- end }}
    {{- end }}
    {{- include "epi.scrape.serviceLabels" . | nindent 4 }}
    - source_labels: [__meta_kubernetes_service_name]
      target_label: job
    {{- include "epi.scrape.onePort" "service" | trim | nindent 4 }}
{{- end -}}

{{- define "epi.scrape.annotatedPods" -}}
- job_name: kubernetes-pods
  honor_labels: true
  {{- include "epi.scrape.sd" (dict "role" "pod" "namespaces" .c.kubernetes.namespaces) | nindent 2 }}
  relabel_configs:
    {{- include "epi.scrape.annotations" "pod" | nindent 4 }}
    - source_labels: [__meta_kubernetes_pod_phase]
      regex: (Pending|Failed|Succeeded)
      action: drop
    - source_labels: [__meta_kubernetes_namespace]
      target_label: namespace
    - source_labels: [__meta_kubernetes_pod_name]
      target_label: pod
    - source_labels: [__meta_kubernetes_pod_container_name]
      target_label: container
    - source_labels: [__meta_kubernetes_pod_container_port_name]
      target_label: endpoint
    {{- include "epi.scrape.onePort" "pod" | trim | nindent 4 }}
{{- end -}}
