"""Values that turn on, between them, all that the chart can make."""

import helm

OBJSTORE = {"objstoreConfig": "type: FILESYSTEM\nconfig: {directory: /bucket}"}
RULER = {"ruler": {"enabled": True, "alertmanagers": ["http://am:9093"], "config": "groups: []"}}
STORES = {**OBJSTORE, "storegateway": {"enabled": True}, "compactor": {"enabled": True}, "bucketweb": {"enabled": True}, **RULER}
COMPONENTS = ["server", "query", "queryFrontend", "storegateway", "ruler", "compactor", "bucketweb"]


def everywhere(values):
    """The same keys in every component's section."""
    return helm.overlay(STORES, {c: values for c in COMPONENTS})


INGRESS = {
    "enabled": True, "hostname": "{{ .Release.Name }}.example.com", "ingressClassName": "nginx", "tls": True, "selfSigned": True,
    "annotations": {"a": "b"}, "extraHosts": [{"name": "two.example.com"}], "extraTls": [{"hosts": ["two.example.com"], "secretName": "two"}],
    "extraRules": [{"host": "three.example.com", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "x", "port": {"number": 80}}}}]}}],
}

VARIANTS = {
    **{name: helm.values_file(name) for name in ("default", "seed", "production", "demo")},
    "stores": STORES,
    "server off": {"server": {"enabled": False}},
    "server alone": {"query": {"enabled": False}, "queryFrontend": {"enabled": False}},
    "server in two namespaces": {"server": {"kubernetes": {"namespaces": ["shop", "bank"]}}},
    "server by hand": {"server": {"config": "scrape_configs: []", "rules": {"a": "groups: []"}}},
    "server, another ConfigMap": {"server": {"existingConfigmap": "mine"}},
    "hpa": everywhere({"autoscaling": {"enabled": True, "minReplicas": 2, "maxReplicas": 9, "targetCPU": 70, "targetMemory": 60,
                                       "targetPodMetrics": [{"name": "m", "averageValue": "5"}]}}) | {"compactor": {"enabled": True}},
    "hpa beside a sidecar": {"query": {"autoscaling": {"enabled": True, "targetCPU": 50},
                                       "sidecars": [{"name": "proxy", "image": "proxy:1"}]}},
    "external autoscaler": everywhere({"externalAutoscaler": True}),
    "closed network": everywhere({"networkPolicy": {"allowExternal": False, "allowExternalEgress": False, "ingressNSMatchLabels": {"a": "b"},
                                                    "ingressNSPodMatchLabels": {"c": "d"}, "extraIngress": [{"ports": [{"port": 1}]}],
                                                    "extraEgress": [{"ports": [{"port": 2}]}]}}),
    "no network policy": everywhere({"networkPolicy": {"enabled": False}}),
    "ingress": helm.overlay(STORES, {c: {"ingress": {**INGRESS, "hostname": f"{c.lower()}.example.com"}, "httpRoute": {"enabled": True}} for c in COMPONENTS}),
    "ingress with its certificate": {"query": {"ingress": {"enabled": True, "hostname": "q.example.com", "tls": True,
                                               "secrets": [{"name": "given", "certificate": "c", "key": "k"}]}}},
    "ingress for gRPC": helm.overlay(STORES, {"query": {"ingress": {"grpc": INGRESS}},
                                              "storegateway": {"ingress": {"grpc": {**INGRESS, "hostname": "store.example.com"}}}}),
    "load balancer": everywhere({"service": {"type": "LoadBalancer", "loadBalancerIP": "10.0.0.1", "loadBalancerSourceRanges": ["10.0.0.0/8"],
                                             "externalTrafficPolicy": "Local", "nodePorts": {"http": 30000}, "annotations": {"a": "b"},
                                             "labels": {"c": "d"}, "extraPorts": [{"name": "more", "port": 1234}]}}),
    "two families": everywhere({"service": {"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv4", "IPv6"], "trafficDistribution": "none"}}),
    "pods": everywhere({
        "extraEnvVars": [{"name": "A", "value": "{{ .Release.Name }}"}], "extraEnvVarsCM": "cm", "extraEnvVarsSecret": "s",
        "extraFlags": ["--memory.limit=1GB"], "initContainers": [{"name": "i", "image": "i:1"}], "sidecars": [{"name": "s", "image": "s:1"}],
        "extraVolumes": [{"name": "v", "emptyDir": {}}], "extraVolumeMounts": [{"name": "v", "mountPath": "/v"}],
        "podAffinityPreset": "hard", "podAntiAffinityPreset": "hard", "nodeAffinityPreset": {"type": "soft", "key": "k", "values": ["v"]},
        "nodeSelector": {"a": "b"}, "tolerations": [{"operator": "Exists"}], "podLabels": {"l": "m"}, "podAnnotations": {"n": "o"},
        "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]}, "dnsPolicy": "ClusterFirst", "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["h"]}],
        "lifecycleHooks": {"preStop": {"exec": {"command": ["true"]}}}, "priorityClassName": "p", "schedulerName": "s", "hostUsers": False,
        "terminationGracePeriodSeconds": 33, "resources": {"requests": {"cpu": "1"}}, "rbac": {"create": True, "rules": [
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]},
        "serviceAccount": {"annotations": {"role": "arn"}}, "customReadinessProbe": {"exec": {"command": ["true"]}},
    }),
    "affinity": everywhere({"affinity": {"nodeAffinity": {}}, "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}], "nodeAffinityPreset": {"type": "hard", "key": "k", "values": ["v"]}}),
    "no probes, no accounts": everywhere({"livenessProbe": {"enabled": False}, "readinessProbe": {"enabled": False},
                                          "startupProbe": {"enabled": False}, "serviceAccount": {"create": False}, "pdb": {"create": False},
                                          "podSecurityContext": {"enabled": False}, "containerSecurityContext": {"enabled": False}}),
    "own command": everywhere({"command": ["/bin/thanos"], "args": ["--version"]}),
    "TLS and passwords": helm.overlay(STORES, {
        "server": {"enabled": False}, "https": {"enabled": True, "autoGenerated": True, "clientAuthType": "VerifyClientCertIfGiven"},
        "auth": {"basicAuthUsers": {"a": "b"}},
        "query": {"grpc": {"server": {"tls": {"enabled": True, "autoGenerated": True}}, "client": {"serverName": "s", "tls": {"enabled": True, "autoGenerated": True}}}},
        "storegateway": {"grpc": {"server": {"tls": {"enabled": True, "autoGenerated": True}}}}}),
    "given certificates": helm.overlay(STORES, {
        "server": {"enabled": False}, "httpConfig": "basic_auth_users: {}",
        "query": {"grpc": {"server": {"tls": {"enabled": True, "cert": "c", "key": "k", "ca": "a"}},
                           "client": {"tls": {"enabled": True, "existingSecret": {"name": "n", "keyMapping": {"tls-cert": "tls.crt"}}}}}},
        "storegateway": {"grpc": {"server": {"tls": {"enabled": True, "clientAuthEnabled": False, "existingSecret": {"name": "n"}}}}}}),
    "caches": helm.overlay(STORES, {"indexCacheConfig": "type: IN-MEMORY", "bucketCacheConfig": {"type": "IN-MEMORY"},
                                    "storegateway": {"config": "type: IN-MEMORY"}, "queryFrontend": {"config": "type: IN-MEMORY"}}),
    "discovery by file": {"query": {"sdConfig": "- targets: [a:10901]", "stores": ["b:10901"], "serviceAliases": ["{{ .Release.Name }}-querier"]}},
    "no volumes": everywhere({"persistence": {"enabled": False}}),
    "given volumes": everywhere({"persistence": {"enabled": True, "existingClaim": "mine"}}),
    "classes of volumes": everywhere({"persistence": {"enabled": True, "storageClass": "-", "labels": {"a": "b"}, "annotations": {"c": "d"}},
                                      "persistentVolumeClaimRetentionPolicy": {"enabled": True}}),
    "ephemeral": helm.overlay(STORES, {"compactor": {"persistence": {"ephemeral": True}}}),
    "cron": helm.overlay(STORES, {"compactor": {"cronJob": {"enabled": True, "timeZone": "UTC", "backoffLimit": 2, "suspend": False,
                                                            "startingDeadlineSeconds": 60, "ttlSecondsAfterFinished": 60}}}),
    "operator": helm.overlay(STORES, {"metrics": {"enabled": True, "serviceMonitor": {
        "enabled": True, "labels": {"a": "b"}, "jobLabel": "j", "interval": "10s", "scrapeTimeout": "5s", "selector": {"c": "d"},
        "metricRelabelings": [{"action": "keep"}], "relabelings": [{"action": "keep"}], "extraParameters": {"honorLabels": True}},
        "prometheusRule": {"enabled": True, "groups": [{"name": "g", "rules": []}], "runbookUrl": "https://example.com/", "additionalLabels": {"x": "y"},
                           "default": {"create": True}}}}),
    "sidecars": {"query": {"dnsDiscovery": {"sidecarsService": "p-thanos", "sidecarsNamespace": "m"}}, "metrics": {"enabled": True,
                 "prometheusRule": {"default": {"create": True, "sidecarJobRegex": "mine"}}}},
    "open registry": {"global": {"imageRegistry": "r.example.com", "imagePullSecrets": ["a", {"name": "b"}],
                                 "compatibility": {"openshift": {"adaptSecurityContext": "force"}}}, "demo": {"enabled": True},
                      "minio": {"auth": {"rootPassword": "p"}}, "image": {"digest": "sha256:" + "0" * 64}},
    "extra": {"extraDeploy": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-x"}},
                              "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: y}"], "nameOverride": "metrics"},
    "without effect": {"volumePermissions": {"enabled": True}, "query": {"pspEnabled": True}, "minio": {"console": {"enabled": True}}},
}
