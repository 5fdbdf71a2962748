{{/* Everything of one component, in order: (list $ "query") */}}

{{- define "epi.objects" -}}
{{- $root := index . 0 -}}
{{- $c := include "epi.component" . | fromJson -}}
{{- if $c.enabled -}}
{{- $in := dict "root" $root "c" $c -}}
{{- $monitored := include "epi.monitorLabels" $root | fromYaml -}}
{{- $ports := ternary (list "http" "grpc") (list "http") (eq $c.kind "StatefulSet") -}}
---
{{ include "epi.workload" $in }}
{{- if ne $c.kind "CronJob" }}
---
{{ include "epi.service" (merge (dict "s" $c.service "name" $c.fullname "ports" $ports "labels" (list $monitored)) $in) }}
{{- if eq $c.kind "StatefulSet" }}
---
{{ include "epi.headless" (merge (dict "s" $c.service "name" (printf "%s-headless" $c.fullname) "ports" $ports) $in) }}
{{- end }}
{{- if eq $c.key "query" }}
---
{{ include "epi.service" (merge (dict "s" $c.serviceGrpc "name" (printf "%s-grpc" $c.fullname) "ports" (list "grpc")) $in) }}
---
{{ include "epi.headless" (merge (dict "s" $c.serviceGrpc "name" (printf "%s-grpc-headless" $c.fullname) "ports" (list "grpc")) $in) }}
{{- range $c.serviceAliases }}
---
{{ include "epi.service" (merge (dict "s" $c.service "name" (tpl . $root) "ports" $ports) $in) }}
{{- end }}
{{- end }}
{{- end }}
{{- range $object := list "hpa" "pdb" "claim" "serviceAccount" "role" "networkPolicy" }}
{{- with include (printf "epi.%s" $object) $in }}
---
{{ . }}
{{- end }}
{{- end }}
{{- if $c.ingress.enabled }}
---
{{ include "epi.ingress" (merge (dict "i" $c.ingress "name" $c.fullname "service" $c.fullname "port" "http") $in) }}
{{- end }}
{{- if and $c.ingress.grpc $c.ingress.grpc.enabled }}
---
{{ include "epi.ingress" (merge (dict "i" (merge (dict "labels" dict) $c.ingress.grpc) "name" (printf "%s-grpc" $c.fullname) "service" (ternary (printf "%s-grpc" $c.fullname) $c.fullname (eq $c.key "query")) "port" "grpc") $in) }}
{{- end }}
{{- if $c.httpRoute.enabled }}
---
{{ include "epi.httpRoute" $in }}
{{- end }}
{{- if and $root.Values.metrics.enabled $root.Values.metrics.serviceMonitor.enabled }}
---
{{ include "epi.serviceMonitor" $in }}
{{- end }}
{{- end -}}
{{- end -}}
