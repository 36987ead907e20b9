#!/usr/bin/env bash
# Installs what building and testing need and is missing: Debian packages, for the tests also the services' runtimes.
# Usage: tools/setup.sh build|test|bench
set -euo pipefail
packages=()
want() { # want PACKAGE COMMAND-OR-FILE
  command -v "$2" >/dev/null 2>&1 || [ -e "$2" ] || packages+=("$1")
}
want build-essential g++
want build-essential make
want pkg-config pkg-config
want ccache ccache
want libssl-dev /usr/include/openssl/ssl.h
want zlib1g-dev /usr/include/zlib.h
ls /usr/lib/llvm-*/lib/libclang.so >/dev/null 2>&1 || packages+=(libclang-dev)
if [ "${1:-build}" = test ]; then
  want curl curl
  want openjdk-17-jre-headless java
  want maven mvn
  want golang go
  want zstd zstd
  want python3 python3
  python3 -c 'import ensurepip' 2>/dev/null || packages+=(python3-venv)
fi
if [ "${1:-build}" = bench ]; then
  want openjdk-17-jdk-headless javac
  want maven mvn
  want python3-pip pip
  want unzip unzip
fi
if [ ${#packages[@]} -gt 0 ]; then
  sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
  echo "installing: ${packages[*]}"
  $sudo apt-get update -qq
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${packages[@]}"
fi
if ! command -v cargo >/dev/null 2>&1; then
  echo "cargo is missing: install Rust with rustup (https://rustup.rs), then run this again" >&2
  exit 1
fi
