{{/* What each component finds where: (dict "root" $ "c" component). Paths are those of Bitnami's chart. */}}

{{- define "epi.mounts" -}}
{{- $root := .root -}}{{- $c := .c -}}
{{- if has $c.key (list "storegateway" "compactor" "bucketweb") }}
- {name: objstore-config, mountPath: /conf, readOnly: true}
{{- else if or (eq $c.key "ruler") (and (eq $c.key "server") (include "epi.hasObjstore" $root)) }}
- {name: objstore-config, mountPath: /conf/objstore, readOnly: true}
{{- end }}
{{- if include "epi.hasHttpConfig" $root }}
- {name: http-config, mountPath: /conf/http, readOnly: true}
{{- if $root.Values.https.enabled }}
- {name: http-certs, mountPath: /certs, readOnly: true}
{{- end }}
{{- end }}
{{- if has $c.key (list "storegateway" "ruler" "server") }}
- {name: data, mountPath: /data}
{{- else if and (eq $c.key "compactor") (or $c.persistence.enabled $c.persistence.defaultEmptyDir) }}
- {name: data, mountPath: {{ $c.dataDir | quote }}}
{{- end }}
{{- if eq $c.key "server" }}
- {name: config, mountPath: /conf/prometheus, readOnly: true}
{{- end }}
{{- if eq $c.key "ruler" }}
- {name: ruler-config, mountPath: /conf/rules, readOnly: true}
{{- if $c.alertmanagersConfig }}
- {name: alertmanagers-config, mountPath: /conf/alertmanagers, readOnly: true}
{{- end }}
{{- end }}
{{- if or (and (eq $c.key "storegateway") (include "epi.storegateway.hasCacheConfig" $root)) (and (eq $c.key "queryFrontend") (or $c.config $c.existingConfigmap)) }}
- {name: cache-config, mountPath: /conf/cache, readOnly: true}
{{- end }}
{{- if eq $c.key "query" }}
{{- if or $c.sdConfig $c.existingSDConfigmap }}
- {name: sd-config, mountPath: /conf/sd, readOnly: true}
{{- end }}
{{- if $c.grpc.server.tls.enabled }}
- {name: grpc-server-tls, mountPath: /certs/server, readOnly: true}
{{- end }}
{{- if $c.grpc.client.tls.enabled }}
- {name: grpc-client-tls, mountPath: /certs/client, readOnly: true}
{{- end }}
{{- end }}
{{- if and (eq $c.key "storegateway") $c.grpc.server.tls.enabled }}
- {name: grpc-server-tls, mountPath: /certs/grpc, readOnly: true}
{{- end }}
{{- end -}}

{{- define "epi.volumes" -}}
{{- $root := .root -}}{{- $c := .c -}}
{{- if or (has $c.key (list "storegateway" "compactor" "bucketweb" "ruler")) (and (eq $c.key "server") (include "epi.hasObjstore" $root)) }}
- name: objstore-config
  secret:
    secretName: {{ include "epi.objstoreSecretName" $root | quote }}
    {{- with $root.Values.existingObjstoreSecretItems }}
    items:
      {{- toYaml . | nindent 6 }}
    {{- end }}
{{- end }}
{{- if include "epi.hasHttpConfig" $root }}
- name: http-config
  secret:
    secretName: {{ include "epi.httpConfigSecretName" $root | quote }}
{{- if $root.Values.https.enabled }}
- name: http-certs
  secret:
    secretName: {{ include "epi.httpCertsSecretName" $root | quote }}
{{- end }}
{{- end }}
{{- if eq $c.key "server" }}
- name: config
  configMap:
    name: {{ if $c.existingConfigmap }}{{ tpl $c.existingConfigmap $root | quote }}{{ else }}{{ $c.fullname }}{{ end }}
{{- end }}
{{- if eq $c.key "ruler" }}
- name: ruler-config
  configMap:
    name: {{ if $c.existingConfigmap }}{{ tpl $c.existingConfigmap $root | quote }}{{ else }}{{ $c.fullname }}{{ end }}
{{- if $c.alertmanagersConfig }}
- name: alertmanagers-config
  secret:
    secretName: {{ $c.fullname }}-alertmanagers-config
{{- end }}
{{- end }}
{{- if and (eq $c.key "storegateway") (include "epi.storegateway.hasCacheConfig" $root) }}
- name: cache-config
  configMap:
    name: {{ include "epi.storegateway.configmapName" $root | quote }}
{{- end }}
{{- if and (eq $c.key "queryFrontend") (or $c.config $c.existingConfigmap) }}
- name: cache-config
  configMap:
    name: {{ if $c.existingConfigmap }}{{ tpl $c.existingConfigmap $root | quote }}{{ else }}{{ $c.fullname }}{{ end }}
{{- end }}
{{- if eq $c.key "query" }}
{{- if or $c.sdConfig $c.existingSDConfigmap }}
- name: sd-config
  configMap:
    name: {{ if $c.existingSDConfigmap }}{{ tpl $c.existingSDConfigmap $root | quote }}{{ else }}{{ $c.fullname }}-sd{{ end }}
{{- end }}
{{- if $c.grpc.server.tls.enabled }}
- name: grpc-server-tls
  secret:
    secretName: {{ include "epi.tlsSecretName" (list $root $c.grpc.server.tls.existingSecret "query-grpc-server") | quote }}
{{- end }}
{{- if $c.grpc.client.tls.enabled }}
- name: grpc-client-tls
  secret:
    secretName: {{ include "epi.tlsSecretName" (list $root $c.grpc.client.tls.existingSecret "query-grpc-client") | quote }}
{{- end }}
{{- end }}
{{- if and (eq $c.key "storegateway") $c.grpc.server.tls.enabled }}
- name: grpc-server-tls
  secret:
    secretName: {{ include "epi.tlsSecretName" (list $root $c.grpc.server.tls.existingSecret "store-grpc-server") | quote }}
{{- end }}
{{- include "epi.dataVolume" . }}
{{- end -}}

{{/* The data volume of the pod, unless the StatefulSet makes claims for it. */}}
{{- define "epi.dataVolume" -}}
{{- $root := .root -}}{{- $c := .c -}}{{- $p := $c.persistence -}}
{{- if or (eq $c.kind "StatefulSet") (and (eq $c.key "compactor") (or $p.enabled $p.defaultEmptyDir)) }}
{{- if not $p.enabled }}
- name: data
  emptyDir: {}
{{- else if $p.existingClaim }}
- name: data
  persistentVolumeClaim:
    claimName: {{ tpl $p.existingClaim $root | quote }}
{{- else if and (eq $c.key "compactor") $p.ephemeral }}
- name: data
  ephemeral:
    volumeClaimTemplate:
      metadata:
        labels:
          {{- include "epi.labels" (dict "root" $root "component" $c.component "extra" (list $p.labels)) | nindent 10 }}
        {{- include "epi.annotations" (dict "root" $root "extra" (list $p.annotations)) | indent 8 }}
      spec:
        {{- include "epi.claimSpec" . | nindent 8 }}
{{- else if eq $c.key "compactor" }}
- name: data
  persistentVolumeClaim:
    claimName: {{ $c.fullname }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "epi.claimSpec" -}}
accessModes:
  {{- toYaml .c.persistence.accessModes | nindent 2 }}
resources:
  requests:
    storage: {{ .c.persistence.size | quote }}
{{- $class := default .root.Values.global.defaultStorageClass .c.persistence.storageClass }}
{{- if eq $class "-" }}
storageClassName: ""
{{- else if $class }}
storageClassName: {{ $class | quote }}
{{- end }}
{{- end -}}

{{/* The text that a pod reads when it starts and not again: a change of it restarts the pod. */}}
{{- define "epi.config.query" -}}{{- with .c.sdConfig -}}{{- include "epi.tpl" (dict "v" . "root" $.root) -}}{{- end -}}{{- end -}}
{{- define "epi.config.queryFrontend" -}}{{- with .c.config -}}{{- include "epi.tpl" (dict "v" . "root" $.root) -}}{{- end -}}{{- end -}}
{{- define "epi.config.ruler" -}}{{- with .c.config -}}{{- include "epi.tpl" (dict "v" . "root" $.root) -}}{{- end -}}{{- end -}}
{{- define "epi.config.bucketweb" -}}{{- end -}}
{{- define "epi.config.compactor" -}}{{- end -}}
{{- define "epi.config.storegateway" -}}
{{- with .c.config }}
config.yml: {{ include "epi.tpl" (dict "v" . "root" $.root) | toJson }}
{{- end }}
{{- with .root.Values.indexCacheConfig }}
index-cache.yml: {{ include "epi.tpl" (dict "v" . "root" $.root) | toJson }}
{{- end }}
{{- with .root.Values.bucketCacheConfig }}
bucket-cache.yml: {{ include "epi.tpl" (dict "v" . "root" $.root) | toJson }}
{{- end }}
{{- end -}}
{{- define "epi.config.server" -}}
{{- if not .c.existingConfigmap -}}{{- include "epi.server.files" . -}}{{- end -}}
{{- end -}}
