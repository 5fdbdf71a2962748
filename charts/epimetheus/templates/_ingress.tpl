{{/* Doors into the cluster. (dict "root" $ "c" component "i" ingress "name" n "port" "http" "service" n "backend" 9090) */}}

{{- define "epi.ingress" -}}
{{- $root := .root -}}{{- $i := .i -}}
{{- $host := tpl $i.hostname $root -}}
{{- $backend := dict "service" (dict "name" .service "port" (dict "name" .port)) -}}
{{- $class := default "" $i.ingressClassName -}}
{{- $annotations := include "epi.tpl" (dict "v" $i.annotations "root" $root) | fromYaml -}}
{{- $fromIssuer := or (hasKey $annotations "cert-manager.io/cluster-issuer") (hasKey $annotations "cert-manager.io/issuer") (hasKey $annotations "kubernetes.io/tls-acme") -}}
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  {{- include "epi.metadata" (dict "root" $root "name" .name "component" .c.component "labels" (list $i.labels) "annotations" (list $i.annotations)) | nindent 2 }}
spec:
  {{- with $class }}
  ingressClassName: {{ . | quote }}
  {{- end }}
  rules:
    {{- if $host }}
    - host: {{ $host | quote }}
      http:
        paths:
          - path: {{ $i.path }}
            pathType: {{ $i.pathType }}
            backend:
              {{- toYaml $backend | nindent 14 }}
    {{- end }}
    {{- range $i.extraHosts }}
    - host: {{ tpl .name $root | quote }}
      http:
        paths:
          - path: {{ default "/" .path }}
            pathType: {{ default "ImplementationSpecific" .pathType }}
            backend:
              {{- toYaml $backend | nindent 14 }}
    {{- end }}
    {{- with $i.extraRules }}
    {{- include "epi.tpl" (dict "v" . "root" $root) | nindent 4 }}
    {{- end }}
  {{- if or (and $i.tls (or $fromIssuer $i.selfSigned $i.secrets $i.secretName)) $i.extraTls }}
  tls:
    {{- if and $i.tls (or $fromIssuer $i.selfSigned $i.secrets $i.secretName) }}
    - hosts:
        - {{ $host | quote }}
      secretName: {{ default (printf "%s-tls" $host) $i.secretName }}
    {{- end }}
    {{- with $i.extraTls }}
    {{- include "epi.tpl" (dict "v" . "root" $root) | nindent 4 }}
    {{- end }}
  {{- end }}
{{- range $i.secrets }}
---
apiVersion: v1
kind: Secret
metadata:
  {{- include "epi.metadata" (dict "root" $root "name" .name "component" $.c.component) | nindent 2 }}
type: kubernetes.io/tls
data:
  tls.crt: {{ .certificate | b64enc }}
  tls.key: {{ .key | b64enc }}
{{- end }}
{{- if and $i.tls $i.selfSigned (not $i.secrets) }}
{{- $ca := genCA "epimetheus-ca" 365 }}
{{- $cert := genSignedCert $host nil (list $host) 365 $ca }}
---
apiVersion: v1
kind: Secret
metadata:
  {{- include "epi.metadata" (dict "root" $root "name" (default (printf "%s-tls" $host) $i.secretName) "component" .c.component) | nindent 2 }}
type: kubernetes.io/tls
data:
  tls.crt: {{ $cert.Cert | b64enc }}
  tls.key: {{ $cert.Key | b64enc }}
  ca.crt: {{ $ca.Cert | b64enc }}
{{- end }}
{{- end -}}

{{- define "epi.httpRoute" -}}
{{- $root := .root -}}{{- $c := .c -}}{{- $h := $c.httpRoute -}}
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  {{- include "epi.metadata" (dict "root" $root "name" $c.fullname "component" $c.component "labels" (list $h.labels) "annotations" (list $h.annotations)) | nindent 2 }}
spec:
  parentRefs:
    {{- if $h.parentRefs }}
    {{- include "epi.tpl" (dict "v" $h.parentRefs "root" $root) | nindent 4 }}
    {{- else }}
    - name: gateway
      namespace: {{ $root.Release.Namespace | quote }}
    {{- end }}
  {{- with $h.hostnames }}
  hostnames:
    {{- include "epi.tpl" (dict "v" . "root" $root) | nindent 4 }}
  {{- end }}
  rules:
    - backendRefs:
        - name: {{ $c.fullname }}
          port: {{ int $c.service.ports.http }}
          weight: 1
      {{- range $key := list "matches" "filters" "timeouts" }}
      {{- with get $h $key }}
      {{ $key }}:
        {{- include "epi.tpl" (dict "v" . "root" $root) | nindent 8 }}
      {{- end }}
      {{- end }}
    {{- with $h.extraRules }}
    {{- include "epi.tpl" (dict "v" . "root" $root) | nindent 4 }}
    {{- end }}
{{- end -}}
