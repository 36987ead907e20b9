#!/usr/bin/env bash
# Installs Helm from the Go module proxy if it is missing (about 2.5 minutes on 2 cores), and prints the binary's path.
# Env: WEIR_CACHE, HELM_VERSION (v4.3.1).
# shellcheck disable=SC2034 # NAME is for the messages of common.sh
NAME=helm; . "$(dirname "$0")/common.sh"
VERSION="${HELM_VERSION:-v4.3.1}"; DIR="$WEIR_CACHE/helm-$VERSION"
mkdir -p "$WEIR_CACHE"
# Two test runs may install at once: one does it, the other waits.
exec 9>"$WEIR_CACHE/.$NAME.install.lock"; flock 9
once "$DIR" go_bin "helm.sh/helm/v4/cmd/helm@$VERSION" || die "cannot install Helm $VERSION"
echo "$DIR/helm"
