#!/usr/bin/env bash
# Installs kubernetes-validate (the API's schemas are inside) from PyPI if it is missing, and prints the command's path.
# Env: WEIR_CACHE, KUBERNETES_VALIDATE_VERSION (1.37.0).
# shellcheck disable=SC2034 # NAME is for the messages of common.sh
NAME=kubernetes-validate; . "$(dirname "$0")/common.sh"
VERSION="${KUBERNETES_VALIDATE_VERSION:-1.37.0}"; DIR="$WEIR_CACHE/kubernetes-validate-$VERSION"
mkdir -p "$WEIR_CACHE"
exec 9>"$WEIR_CACHE/.$NAME.install.lock"; flock 9
pip_venv "kubernetes-validate==$VERSION" "$DIR" || die "cannot install kubernetes-validate $VERSION"
echo "$DIR/bin/kubernetes-validate"
