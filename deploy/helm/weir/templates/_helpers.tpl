{{- define "weir.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 38 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 38 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 38 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "weir.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "weir.labels" -}}
{{ include "weir.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "weir.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "weir.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "weir.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* HOST:PORT of all job managers in the order of their ids, which are also the ordinals of their pods. */}}
{{- define "weir.jobmanagers" -}}
{{- $root := . -}}
{{- $name := printf "%s-jobmanager" (include "weir.fullname" .) -}}
{{- range $id := untilStep 1 (int (add1 .Values.jobmanager.replicas)) 1 }}
- {{ printf "%s-%d.%s-headless.%s.svc.%s:%d" $name $id $name $root.Release.Namespace $root.Values.clusterDomain (int $root.Values.jobmanager.port) }}
{{- end -}}
{{- end -}}

{{/* The configuration file: one for both roles. What differs from pod to pod comes by environment. */}}
{{- define "weir.config" -}}
{{- $peers := include "weir.jobmanagers" . | fromYamlArray -}}
{{- $config := dict
  "cluster_id" (default (printf "%s-%s" .Release.Namespace (include "weir.fullname" .)) .Values.clusterId)
  "log" (dict "format" .Values.log.format "filter" .Values.log.filter)
  "metrics_address" (printf "0.0.0.0:%d" (int .Values.metrics.port))
  "job_defaults" .Values.jobDefaults
  "jobmanager" (dict
    "bind" (printf "0.0.0.0:%d" (int .Values.jobmanager.port))
    "peers" $peers
    "data_dir" "/var/lib/weir/jobmanager"
    "heartbeat_interval_ms" (int64 .Values.jobmanager.heartbeatIntervalMs)
    "heartbeat_timeout_ms" (int64 .Values.jobmanager.heartbeatTimeoutMs))
  "taskmanager" (dict
    "bind" (printf "0.0.0.0:%d" (int .Values.taskmanager.port))
    "jobmanagers" $peers
    "slots" (int64 .Values.taskmanager.slots)
    "data_dir" "/var/lib/weir/taskmanager"
    "memory_bytes" (int64 .Values.taskmanager.memoryBytes)
    "transfer_threads" (int64 .Values.taskmanager.transferThreads)
    "drain_timeout_ms" (mul 1000 (max 0 (sub (int64 .Values.taskmanager.terminationGracePeriodSeconds) 15)))) -}}
{{- if .Values.tls.existingSecret -}}
{{- $tls := dict "ca" "/etc/weir/tls/ca.crt" "certificate" "/etc/weir/tls/tls.crt" "key" "/etc/weir/tls/tls.key" -}}
{{- with .Values.tls.serverName }}{{- $_ := set $tls "server_name" . -}}{{- end -}}
{{- $_ := set $config "tls" $tls -}}
{{- end -}}
{{- $s3 := dict -}}
{{- with .Values.s3.endpoint }}{{- $_ := set $s3 "endpoint" . -}}{{- end -}}
{{- with .Values.s3.region }}{{- $_ := set $s3 "region" . -}}{{- end -}}
{{- if $s3 }}{{- $_ := set $config "s3" $s3 -}}{{- end -}}
{{- mergeOverwrite $config (deepCopy .Values.config) | toYaml -}}
{{- end -}}

{{/* Environment of both roles. WEIR_CONFIG and WEIR_JOBMANAGER_ADDRESS let client commands work inside of a pod as they are. */}}
{{- define "weir.env" -}}
- name: WEIR_CONFIG
  value: /etc/weir/config/weir.yaml
- name: WEIR_JOBMANAGER_ADDRESS
  value: {{ printf "%s-jobmanager.%s.svc.%s:%d" (include "weir.fullname" .) .Release.Namespace .Values.clusterDomain (int .Values.service.port) | quote }}
{{- if .Values.s3.existingSecret }}
- name: AWS_ACCESS_KEY_ID
  valueFrom:
    secretKeyRef: {name: {{ .Values.s3.existingSecret | quote }}, key: {{ .Values.s3.accessKeyIdKey | quote }}}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom:
    secretKeyRef: {name: {{ .Values.s3.existingSecret | quote }}, key: {{ .Values.s3.secretAccessKeyKey | quote }}}
{{- end }}
{{- end -}}

{{/* Volumes of both roles. The root file system is read-only. */}}
{{- define "weir.volumes" -}}
- name: config
  configMap:
    name: {{ include "weir.fullname" . }}
- name: tmp
  emptyDir: {sizeLimit: 256Mi}
{{- if .Values.tls.existingSecret }}
- name: tls
  secret:
    secretName: {{ .Values.tls.existingSecret | quote }}
    defaultMode: 0440
    items:
      - {key: {{ .Values.tls.caKey | quote }}, path: ca.crt}
      - {key: {{ .Values.tls.certificateKey | quote }}, path: tls.crt}
      - {key: {{ .Values.tls.privateKeyKey | quote }}, path: tls.key}
{{- end }}
{{- end -}}

{{- define "weir.volumeMounts" -}}
- {name: config, mountPath: /etc/weir/config, readOnly: true}
- {name: tmp, mountPath: /tmp}
{{- if .Values.tls.existingSecret }}
- {name: tls, mountPath: /etc/weir/tls, readOnly: true}
{{- end }}
{{- end -}}

{{/* Probes; takes (dict "root" $ "port" GRPC-PORT). The kubelet has no certificate to show, so with TLS readiness is an open port. */}}
{{- define "weir.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  {{- if .root.Values.tls.existingSecret }}
  tcpSocket: {port: grpc}
  {{- else }}
  grpc: {port: {{ int .port }}}
  {{- end }}
  periodSeconds: 5
  timeoutSeconds: 3
{{- end -}}

{{/* Where pods go; takes (dict "root" $ "component" NAME "values" VALUES-OF-THE-ROLE). */}}
{{- define "weir.placement" -}}
{{- $labels := merge (dict "app.kubernetes.io/component" .component) (include "weir.selector" .root | fromYaml) -}}
{{- $onePerNode := dict "maxSkew" 1 "topologyKey" "kubernetes.io/hostname" "whenUnsatisfiable" "ScheduleAnyway" -}}
{{- $constraints := list -}}
{{- range default (list $onePerNode) .values.topologySpreadConstraints -}}
{{- $constraints = append $constraints (merge (deepCopy .) (dict "labelSelector" (dict "matchLabels" $labels))) -}}
{{- end -}}
topologySpreadConstraints: {{- toYaml $constraints | nindent 2 }}
{{- with .values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- end -}}
