"""Changes of one value each, as people make them: (key, value). What must stand beside it is below."""

LISTS = {"sidecars": [{"name": "side", "image": "side:1"}]}

CHANGES = [
    ("query.replicaCount", 3), ("query.logLevel", "debug"), ("query.logFormat", "json"), ("query.replicaLabel", ["a", "b"]),
    ("query.replicaLabel", "one"), ("query.dnsDiscovery.enabled", False), ("query.stores", ["s1:10901", "s2:10901"]),
    ("query.sdConfig", "- targets: [a:1]"), ("query.existingSDConfigmap", "mine"), ("query.extraFlags", ["--query.timeout=1m"]),
    ("query.extraEnvVars", [{"name": "A", "value": "b"}]), ("query.extraEnvVarsCM", "cm"), ("query.extraEnvVarsSecret", "sec"),
    ("query.command", ["/bin/thanos"]), ("query.args", ["query", "--log.level=warn"]), ("query.revisionHistoryLimit", 3),
    ("query.containerPorts.http", 8902), ("query.containerPorts.grpc", 8901), ("query.resources", {"requests": {"cpu": "2"}}),
    ("query.resourcesPreset", "small"), ("query.resourcesPreset", "none"), ("query.podLabels", {"l": "v"}), ("query.podAnnotations", {"a": "v"}),
    ("query.nodeSelector", {"disk": "ssd"}), ("query.tolerations", [{"key": "k", "operator": "Exists"}]), ("query.priorityClassName", "high"),
    ("query.schedulerName", "mine"), ("query.hostAliases", [{"ip": "1.2.3.4", "hostnames": ["h"]}]), ("query.dnsPolicy", "Default"),
    ("query.dnsConfig", {"nameservers": ["1.1.1.1"]}), ("query.lifecycleHooks", {"preStop": {"exec": {"command": ["true"]}}}),
    ("query.initContainers", [{"name": "init", "image": "init:1"}]), ("query.sidecars", LISTS["sidecars"]),
    ("query.extraVolumes", [{"name": "v", "emptyDir": {}}]), ("query.extraVolumeMounts", [{"name": "v", "mountPath": "/v"}]),
    ("query.affinity", {"nodeAffinity": {}}), ("query.podAffinityPreset", "hard"), ("query.podAntiAffinityPreset", "hard"),
    ("query.podAntiAffinityPresetTopologyKey", "zone"), ("query.nodeAffinityPreset", {"type": "hard", "key": "k", "values": ["v"]}),
    ("query.topologySpreadConstraints", [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]),
    ("query.containerSecurityContext.runAsUser", 2000), ("query.podSecurityContext.fsGroup", 2000), ("query.podSecurityContext.enabled", False),
    ("query.livenessProbe.periodSeconds", 17), ("query.readinessProbe.enabled", False), ("query.customReadinessProbe", {"exec": {"command": ["true"]}}),
    ("query.service.type", "NodePort"), ("query.service.ports.http", 80), ("query.service.annotations", {"a": "b"}), ("query.service.labels", {"a": "b"}),
    ("query.service.clusterIP", "10.1.2.3"), ("query.service.extraPorts", [{"name": "x", "port": 99}]), ("query.service.ipFamilies", ["IPv6"]),
    ("query.service.labelSelectorsOverride", {"a": "b"}), ("query.serviceGrpc.ports.grpc", 9999), ("query.serviceGrpc.annotations", {"a": "b"}),
    ("query.serviceAccount.name", "acc"), ("query.serviceAccount.annotations", {"role": "arn"}), ("query.serviceAccount.create", False),
    ("query.autoscaling", {"enabled": True, "minReplicas": 1, "maxReplicas": 3, "targetCPU": 50, "targetMemory": 50}),
    ("query.autoscaling", {"enabled": True, "minReplicas": 1, "maxReplicas": 3, "targetPodMetrics": [{"name": "m", "averageValue": "7"}]}),
    ("query.externalAutoscaler", True), ("query.pdb.create", False), ("query.pdb.minAvailable", 1), ("query.pdb.maxUnavailable", "50%"),
    ("query.networkPolicy.enabled", False), ("query.networkPolicy.allowExternal", False), ("query.ingress.enabled", True),
    ("query.ingress", {"enabled": True, "hostname": "q.example.com", "ingressClassName": "nginx", "tls": True, "secrets": [
        {"name": "q.example.com-tls", "certificate": "c", "key": "k"}]}),
    ("query.httpRoute.enabled", True), ("queryFrontend.enabled", False), ("queryFrontend.config", "type: IN-MEMORY"),
    ("queryFrontend.replicaCount", 2), ("bucketweb.enabled", False), ("bucketweb.refresh", "5m"), ("bucketweb.timeout", "1m"),
    ("compactor.enabled", False), ("compactor.retentionResolutionRaw", "90d"), ("compactor.retentionResolution5m", "1y"),
    ("compactor.retentionResolution1h", "0d"), ("compactor.concurrency", 4), ("compactor.consistencyDelay", "1h"),
    ("compactor.persistence.size", "50Gi"), ("compactor.persistence.storageClass", "fast"), ("compactor.persistence.existingClaim", "claim"),
    ("compactor.persistence.enabled", False), ("compactor.cronJob.enabled", True), ("storegateway.enabled", False), ("storegateway.replicaCount", 2),
    ("storegateway.useEndpointGroup", True), ("storegateway.persistence.size", "50Gi"), ("storegateway.persistence.enabled", False),
    ("storegateway.persistentVolumeClaimRetentionPolicy.enabled", True), ("storegateway.podManagementPolicy", "Parallel"),
    ("storegateway.config", "type: IN-MEMORY"), ("storegateway.statefulsetLabels", {"a": "b"}), ("storegateway.statefulsetAnnotations", {"a": "b"}),
    ("storegateway.grpc.server.tls", {"enabled": True, "existingSecret": {"name": "s"}}), ("indexCacheConfig", "type: IN-MEMORY"),
    ("bucketCacheConfig", "type: IN-MEMORY"), ("ruler.enabled", False), ("ruler.evalInterval", "30s"), ("ruler.clusterName", "c"),
    ("ruler.replicaLabel", "r"), ("ruler.alertmanagers", ["http://a:9093", "http://b:9093"]), ("ruler.queryURL", "http://q"),
    ("ruler.dataPath", "/data/x"), ("ruler.ruleFile", "/conf/rules/*.yaml"), ("ruler.existingConfigmap", "mine"), ("ruler.config", "groups: [] # other"),
    ("ruler.dnsDiscovery.enabled", False), ("existingObjstoreSecret", "mine"), ("commonLabels", {"team": "x"}), ("commonAnnotations", {"a": "b"}),
    ("clusterDomain", "example.org"), ("image.pullPolicy", "Always"), ("image.pullSecrets", ["s"]),
    ("global.imagePullSecrets", ["s"]), ("metrics", {"enabled": True, "serviceMonitor": {"enabled": True, "interval": "10s", "labels": {"a": "b"}}}),
    ("auth.basicAuthUsers", {"u": "p"}), ("https", {"enabled": True, "existingSecret": "s"}), ("httpConfig", "basic_auth_users: {}"),
    ("extraDeploy", [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}]),
]

# Everything on, as far as both charts have it, so that every key has something to change.
BASE = {
    "objstoreConfig": "type: FILESYSTEM\nconfig: {directory: /b}",
    "storegateway": {"enabled": True},
    "compactor": {"enabled": True},
    "bucketweb": {"enabled": True},
    "ruler": {"enabled": True, "alertmanagers": ["http://am:9093"], "config": "groups: []"},
}
# For our chart alone: without what the other does not have, and with its defaults where ours differ.
OURS = {
    "server": {"enabled": False},
    "image": {"registry": "docker.io", "repository": "bitnami/thanos", "tag": "0.39.2-debian-12-r2"},
    "query": {"readinessProbe": {"periodSeconds": 10}},
    "componentDefaults": {
        "automountServiceAccountToken": True,
        "podManagementPolicy": "OrderedReady",
        "podSecurityContext": {"fsGroup": 1001, "fsGroupChangePolicy": "Always"},
        "containerSecurityContext": {"runAsUser": 1001, "runAsGroup": 1001},
        "livenessProbe": {"initialDelaySeconds": 30, "timeoutSeconds": 30, "periodSeconds": 10, "failureThreshold": 6},
        "readinessProbe": {"initialDelaySeconds": 30, "timeoutSeconds": 30, "periodSeconds": 10, "failureThreshold": 6},
    },
}

# Where our chart does something else on purpose: (part of the object and path, why).
ON_PURPOSE = [
    ("NetworkPolicy", "/spec/ingress/*/ports/*/port", ("80", "9090", "9999", "8080"), "a policy sees the ports of pods; those of Services in it have no effect"),
    ("Secret thanos-query", "", None, "the Secret of an Ingress has the name that the Ingress asks for"),
    ("Service", "/metadata/labels/prometheus-operator/monitor", ("true",), "the label is always there: the chart's own server finds the Service by it"),
    ("Secret thanos-http-config-secret", "/stringData/http-config.yml", None, "a hash has a new salt each time"),
    ("Deployment thanos-query", "/spec/template/spec/topologySpreadConstraints/*/maxSkew", ("1",), "pods are spread by default, with the same skew"),
]
