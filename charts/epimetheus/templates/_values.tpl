{{/* What the values mean once defaults, aliases and the demo are laid together. */}}

{{/* Lays map "over" on map "under", maps into maps; changes "under". */}}
{{- define "epi.overlay" -}}
{{- $under := .under -}}
{{- range $key, $value := .over -}}
{{- if and (kindIs "map" $value) (kindIs "map" (get $under $key)) -}}
{{- include "epi.overlay" (dict "under" (get $under $key) "over" $value) -}}
{{- else if kindIs "invalid" $value -}}
{{- $_ := unset $under $key -}}
{{- else -}}
{{- $_ := set $under $key $value -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The values of a component as JSON, with what the chart knows of it: (list $ "query"). Made once a rendering. */}}
{{- define "epi.component" -}}
{{- $root := index . 0 -}}{{- $key := index . 1 -}}
{{- if not (hasKey $root.Values "made") -}}{{- $_ := set $root.Values "made" dict -}}{{- end -}}
{{- if not (hasKey $root.Values.made $key) -}}{{- $_ := set $root.Values.made $key (include "epi.component.make" .) -}}{{- end -}}
{{- get $root.Values.made $key -}}
{{- end -}}

{{- define "epi.component.make" -}}
{{- $root := index . 0 -}}{{- $key := index . 1 -}}
{{- $c := deepCopy $root.Values.componentDefaults -}}
{{- include "epi.overlay" (dict "under" $c "over" (deepCopy (index $root.Values $key))) -}}
{{- if eq $key "query" -}}{{- include "epi.overlay" (dict "under" $c "over" (deepCopy (default (dict) $root.Values.querier))) -}}{{- end -}}
{{- $component := get (dict "queryFrontend" "query-frontend") $key | default $key -}}
{{- $_ := set $c "key" $key -}}
{{- $_ := set $c "component" $component -}}
{{- $_ := set $c "fullname" (include "epi.fullnameOf" (list $root $component)) -}}
{{- $_ := set $c "kind" (ternary "StatefulSet" "Deployment" (has $key (list "storegateway" "ruler" "server"))) -}}
{{- if and (eq $key "compactor") $c.cronJob.enabled -}}{{- $_ := set $c "kind" "CronJob" -}}{{- end -}}
{{- if eq $key "server" -}}{{- $_ := set $c "enabled" (eq (include "epi.serverEnabled" $root) "true") -}}{{- end -}}
{{- $_ := set $c "serviceAccountName" (ternary (default $c.fullname $c.serviceAccount.name) (default "default" $c.serviceAccount.name) $c.serviceAccount.create) -}}
{{- toJson $c -}}
{{- end -}}

{{- define "epi.componentKeys" -}}
{{- list "server" "query" "queryFrontend" "storegateway" "ruler" "compactor" "bucketweb" | toJson -}}
{{- end -}}

{{/* The querier as its users wrote it, without the defaults below it. */}}
{{- define "epi.query" -}}
{{- $q := deepCopy .Values.query -}}
{{- include "epi.overlay" (dict "under" $q "over" (deepCopy (default (dict) .Values.querier))) -}}
{{- toJson $q -}}
{{- end -}}

{{- define "epi.serverEnabled" -}}
{{- if eq (toString .Values.server.enabled) "auto" -}}
{{- $q := include "epi.query" . | fromJson -}}
{{- empty $q.dnsDiscovery.sidecarsService -}}
{{- else -}}
{{- .Values.server.enabled -}}
{{- end -}}
{{- end -}}

{{/* "true" if a companion runs: (list $ "grafana") */}}
{{- define "epi.demo" -}}
{{- $root := index . 0 -}}{{- $name := index . 1 -}}
{{- $on := index $root.Values.demo $name "enabled" -}}
{{- if and (kindIs "invalid" $on) (ne $name "load") -}}{{- $on = $root.Values.demo.enabled -}}{{- end -}}
{{- if and (eq $name "s3") $root.Values.minio.enabled -}}{{- $on = true -}}{{- end -}}
{{- if $on -}}true{{- end -}}
{{- end -}}

{{- define "epi.s3.accessKey" -}}
{{- default .Values.minio.auth.rootUser .Values.minio.accessKey.password -}}
{{- end -}}
{{/* The given password; else the one of the installed Secret; else a new one, once a rendering. */}}
{{- define "epi.s3.secretKey" -}}
{{- $given := default .Values.minio.auth.rootPassword .Values.minio.secretKey.password -}}
{{- if not $given -}}
{{- $secret := lookup "v1" "Secret" .Release.Namespace (include "epi.fullnameOf" (list . "minio")) -}}
{{- if $secret -}}
{{- $given = index $secret.data "root-password" | b64dec -}}
{{- else -}}
{{- if not (hasKey .Values "made") -}}{{- $_ := set .Values "made" dict -}}{{- end -}}
{{- if not (hasKey .Values.made "s3") -}}{{- $_ := set .Values.made "s3" (randAlphaNum 24) -}}{{- end -}}
{{- $given = .Values.made.s3 -}}
{{- end -}}
{{- end -}}
{{- $given -}}
{{- end -}}
{{- define "epi.s3.bucket" -}}
{{- first (splitList "," (first (splitList ":" .Values.minio.defaultBuckets))) | trim -}}
{{- end -}}

{{/* The text of objstore.yml: the user's, or the demo's. */}}
{{- define "epi.objstoreConfig" -}}
{{- if .Values.objstoreConfig -}}
{{- include "epi.tpl" (dict "v" .Values.objstoreConfig "root" .) -}}
{{- else if include "epi.demo" (list . "s3") -}}
type: S3
config:
  bucket: {{ include "epi.s3.bucket" . }}
  endpoint: {{ include "thanos.minio.fullname" . }}.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}:{{ .Values.minio.service.ports.api }}
  access_key: {{ include "epi.s3.accessKey" . | quote }}
  secret_key: {{ include "epi.s3.secretKey" . | quote }}
  insecure: true
{{- end -}}
{{- end -}}
{{- define "epi.createObjstoreSecret" -}}
{{- if and (not .Values.existingObjstoreSecret) (include "epi.objstoreConfig" .) -}}true{{- end -}}
{{- end -}}
{{- define "epi.hasObjstore" -}}
{{- if or .Values.existingObjstoreSecret (include "epi.objstoreConfig" .) -}}true{{- end -}}
{{- end -}}
{{- define "epi.objstoreSecretName" -}}
{{- if .Values.existingObjstoreSecret -}}{{- tpl .Values.existingObjstoreSecret . -}}{{- else -}}{{- include "epi.fullname" . -}}-objstore-secret{{- end -}}
{{- end -}}

{{/* Web configuration: TLS and passwords. */}}
{{- define "epi.hasHttpConfig" -}}
{{- if or .Values.existingHttpConfigSecret .Values.https.enabled .Values.auth.basicAuthUsers .Values.httpConfig -}}true{{- end -}}
{{- end -}}
{{- define "epi.httpConfigSecretName" -}}
{{- if .Values.existingHttpConfigSecret -}}{{- tpl .Values.existingHttpConfigSecret . -}}{{- else -}}{{- include "epi.fullname" . -}}-http-config-secret{{- end -}}
{{- end -}}
{{- define "epi.httpCertsSecretName" -}}
{{- if .Values.https.existingSecret -}}{{- tpl .Values.https.existingSecret . -}}{{- else -}}{{- include "epi.fullname" . -}}-http-certs-secret{{- end -}}
{{- end -}}

{{/* Where a gRPC certificate lies: (list $ existingSecret "query-grpc-server") gives a name; (list existingSecret "tls-cert") a key. */}}
{{- define "epi.tlsSecretName" -}}
{{- $existing := index . 1 -}}
{{- if kindIs "string" $existing -}}{{- default (include "epi.fullnameOf" (list (index . 0) (index . 2))) $existing -}}
{{- else -}}{{- default (include "epi.fullnameOf" (list (index . 0) (index . 2))) (get $existing "name") -}}{{- end -}}
{{- end -}}
{{- define "epi.tlsSecretKey" -}}
{{- $existing := index . 0 -}}{{- $key := index . 1 -}}
{{- if kindIs "string" $existing -}}{{- $key -}}{{- else -}}{{- get (default (dict) (get $existing "keyMapping")) $key | default $key -}}{{- end -}}
{{- end -}}

{{/* Where people ask queries: for links in alerts. */}}
{{- define "epi.queryURL" -}}
{{- $q := include "epi.component" (list . "query") | fromJson -}}
{{- $f := include "epi.component" (list . "queryFrontend") | fromJson -}}
{{- $scheme := ternary "https" "http" .Values.https.enabled -}}
{{- if and $f.enabled $f.httpRoute.enabled -}}
{{- printf "https://%s" (tpl (first $f.httpRoute.hostnames) .) -}}
{{- else if and $f.enabled $f.ingress.enabled $f.ingress.hostname $f.ingress.overrideAlertQueryURL -}}
{{- printf "%s://%s" (ternary "https" "http" (not (empty $f.ingress.tls))) (tpl $f.ingress.hostname .) -}}
{{- else if .Values.ruler.queryURL -}}
{{- tpl .Values.ruler.queryURL . -}}
{{- else -}}
{{- printf "%s://%s.%s.svc.%s:%d" $scheme $q.fullname .Release.Namespace .Values.clusterDomain (int $q.service.ports.http) -}}
{{- end -}}
{{- end -}}

{{/* Alertmanagers of the ruler, as URLs, and of the server, as host:port. */}}
{{- define "epi.demoAlertmanager" -}}
{{- if include "epi.demo" (list . "alertmanager") -}}{{- printf "%s.%s.svc.%s:9093" (include "epi.fullnameOf" (list . "alertmanager")) .Release.Namespace .Values.clusterDomain -}}{{- end -}}
{{- end -}}
{{- define "epi.rulerAlertmanagers" -}}
{{- $urls := .Values.ruler.alertmanagers -}}
{{- if and (not $urls) (not .Values.ruler.alertmanagersConfig) -}}{{- with include "epi.demoAlertmanager" . -}}{{- $urls = list (printf "http://%s" .) -}}{{- end -}}{{- end -}}
{{- toJson $urls -}}
{{- end -}}
{{- define "epi.serverAlertmanagers" -}}
{{- $hosts := .Values.server.alertmanagers -}}
{{- if not $hosts -}}{{- with include "epi.demoAlertmanager" . -}}{{- $hosts = list . -}}{{- end -}}{{- end -}}
{{- toJson $hosts -}}
{{- end -}}

{{- define "epi.storegateway.hasCacheConfig" -}}
{{- if or .Values.storegateway.config .Values.indexCacheConfig .Values.bucketCacheConfig .Values.storegateway.existingConfigmap -}}true{{- end -}}
{{- end -}}
{{- define "epi.storegateway.configmapName" -}}
{{- if .Values.storegateway.existingConfigmap -}}{{- tpl .Values.storegateway.existingConfigmap . -}}{{- else -}}{{- include "thanos.storegateway.fullname" . -}}{{- end -}}
{{- end -}}
