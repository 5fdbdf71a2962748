{{/* What cannot work is said before anything is made. */}}

{{- define "epi.validate" -}}
{{- $errors := list -}}
{{- range $key := list "receive" "receiveDistributor" -}}
{{- if (index $.Values $key).enabled -}}
{{- $errors = append $errors (printf "%s.enabled: receiving is not in this version; let Prometheus keep its data and put a sidecar beside it, or scrape with the server" $key) -}}
{{- end -}}
{{- end -}}
{{- if .Values.storegateway.sharded.enabled -}}
{{- $errors = append $errors "storegateway.sharded.enabled: shards are not in this version; install one release a shard with storegateway.extraFlags: [--selector.relabel-config=..., --min-time=..., --max-time=...]" -}}
{{- end -}}
{{- $needy := list -}}
{{- range $key := list "bucketweb" "compactor" "ruler" "storegateway" -}}
{{- if (index $.Values $key).enabled -}}{{- $needy = append $needy $key -}}{{- end -}}
{{- end -}}
{{- if and $needy (not (include "epi.hasObjstore" .)) -}}
{{- $errors = append $errors (printf "%s: an object store is needed; give objstoreConfig or existingObjstoreSecret, or try with demo.s3.enabled" (join ", " $needy)) -}}
{{- end -}}
{{- if .Values.ruler.enabled -}}
{{- if and .Values.ruler.alertmanagers .Values.ruler.alertmanagersConfig -}}
{{- $errors = append $errors "ruler: give alertmanagers or alertmanagersConfig, not both" -}}
{{- end -}}
{{- if not (or .Values.ruler.alertmanagersConfig (include "epi.rulerAlertmanagers" . | fromJsonArray)) -}}
{{- $errors = append $errors "ruler: alertmanagers or alertmanagersConfig is needed" -}}
{{- end -}}
{{- if not (or .Values.ruler.config .Values.ruler.existingConfigmap) -}}
{{- $errors = append $errors "ruler: rules are needed; give ruler.config or ruler.existingConfigmap" -}}
{{- end -}}
{{- end -}}
{{- $query := include "epi.component" (list . "query") | fromJson -}}
{{- if and $query.grpc.client.tls.enabled (eq (include "epi.serverEnabled" .) "true") -}}
{{- $errors = append $errors "query.grpc.client.tls.enabled: the server of this chart speaks gRPC without TLS, and the querier would not reach it; set server.enabled: false" -}}
{{- end -}}
{{- if and .Values.queryFrontend.enabled (not $query.enabled) -}}
{{- $errors = append $errors "queryFrontend needs query.enabled" -}}
{{- end -}}
{{- if $errors -}}
{{- fail (printf "\n\n- %s\n" (join "\n- " $errors)) -}}
{{- end -}}
{{- end -}}

{{/* Values that are taken and do nothing, for the notes. */}}
{{- define "epi.withoutEffect" -}}
{{- $found := list -}}
{{- if .Values.volumePermissions.enabled -}}{{- $found = append $found "volumePermissions.enabled: volumes get their owner by fsGroup; no pod runs as root" -}}{{- end -}}
{{- if or .Values.query.pspEnabled .Values.queryFrontend.pspEnabled -}}{{- $found = append $found "pspEnabled: Kubernetes has no PodSecurityPolicy any more; the pods keep to the 'restricted' standard" -}}{{- end -}}
{{- if .Values.minio.console.enabled -}}{{- $found = append $found "minio.console.enabled: the demo's S3 store has no console" -}}{{- end -}}
{{- if .Values.global.security.allowInsecureImages -}}{{- $found = append $found "global.security.allowInsecureImages: any image may be named" -}}{{- end -}}
{{- if and .Values.queryFrontend.enabled (or .Values.queryFrontend.config .Values.queryFrontend.existingConfigmap) -}}{{- $found = append $found "queryFrontend.config: the frontend of this version passes queries on; it does not split or cache yet" -}}{{- end -}}
{{- toJson $found -}}
{{- end -}}
