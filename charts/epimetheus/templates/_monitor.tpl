{{/* A ServiceMonitor, for a Prometheus of the operator: (dict "root" $ "c" component) */}}

{{- define "epi.serviceMonitor" -}}
{{- $root := .root -}}{{- $c := .c -}}{{- $m := $root.Values.metrics.serviceMonitor -}}
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  {{- include "epi.metadata" (dict "root" $root "name" $c.fullname "component" $c.component "labels" (list $m.labels) "namespace" $m.namespace) | nindent 2 }}
spec:
  {{- with $m.jobLabel }}
  jobLabel: {{ . }}
  {{- end }}
  namespaceSelector:
    matchNames: [{{ $root.Release.Namespace | quote }}]
  selector:
    matchLabels:
      {{- include "epi.selector" (dict "root" $root "component" $c.component) | nindent 6 }}
      {{- include "epi.monitorLabels" $root | nindent 6 }}
      {{- with $m.selector }}
      {{- include "epi.tpl" (dict "v" . "root" $root) | nindent 6 }}
      {{- end }}
  endpoints:
    - port: http
      {{- if $root.Values.https.enabled }}
      scheme: https
      {{- end }}
      {{- range $key := list "interval" "scrapeTimeout" }}
      {{- with get $m $key }}
      {{ $key }}: {{ . }}
      {{- end }}
      {{- end }}
      {{- range $key := list "metricRelabelings" "relabelings" }}
      {{- with get $m $key }}
      {{ $key }}:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- end }}
      {{- with $m.extraParameters }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
{{- end -}}

{{/* The one Service of a component that is scraped bears this. */}}
{{- define "epi.monitorLabels" -}}
prometheus-operator/monitor: "true"
{{- end -}}

{{/* The mixin's groups for what runs in this release, without the alerts that were disabled, as `groups:`. */}}
{{- define "epi.rules" -}}
{{- $root := . -}}{{- $d := .Values.metrics.prometheusRule -}}
{{- $q := include "epi.query" . | fromJson -}}
{{- $sidecars := not (empty $q.dnsDiscovery.sidecarsService) -}}
{{- $groups := list -}}
{{- range $path, $_ := .Files.Glob "files/rules/*.yml" -}}
{{- $key := base $path | trimSuffix ".yml" -}}
{{- $on := true -}}
{{- if eq $key "sidecar" -}}{{- $on = $sidecars -}}
{{- else if eq $key "server" -}}{{- $on = eq (include "epi.serverEnabled" $root) "true" -}}
{{- else if ne $key "watchdog" -}}{{- $on = (index $root.Values $key).enabled -}}
{{- end -}}
{{- if $on -}}
{{- range ($root.Files.Get $path | fromYaml).groups -}}
{{- $rules := list -}}
{{- range .rules -}}
{{- if not (get $d.default.disabled .alert) -}}
{{- if $d.runbookUrl -}}{{- $_ := set .annotations "runbook_url" (printf "%s%s" $d.runbookUrl (lower .alert)) -}}{{- end -}}
{{- if eq $key "sidecar" -}}{{- $_ := set . "expr" (replace ".*thanos-sidecar.*" $d.default.sidecarJobRegex .expr) -}}{{- end -}}
{{- $rules = append $rules . -}}
{{- end -}}
{{- end -}}
{{- $groups = append $groups (dict "name" .name "rules" $rules) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml (dict "groups" $groups) -}}
{{- end -}}
