#!/usr/bin/env bash
# Apache Flink, its SQL gateway, the Kafka connector and the nexmark source beside this file, into $WEIR_CACHE/flink-VERSION. About a minute;
# afterwards only a changed source is compiled again. Flink comes from its PyPI wheels, the rest from Maven Central. Prints the folder.
set -euo pipefail
VERSION="${FLINK_VERSION:-2.3.0}"
KAFKA_CONNECTOR=5.0.0-2.2 # the newest; it names 2.2, and works with 2.3
HERE="$(cd "$(dirname "$0")" && pwd)"
DIR="${WEIR_CACHE:-$HOME/.cache/weir}/flink-$VERSION"

need() {
  for command in "$@"; do
    command -v "$command" >/dev/null || { echo "bench/flink/setup.sh needs '$command' (Debian: openjdk-17-jdk-headless maven python3-pip unzip)" >&2; exit 1; }
  done
}

install_flink() {
  need python3 pip mvn unzip java
  rm -rf "$DIR" && mkdir -p "$DIR/download" && cd "$DIR/download"
  pip download -q --disable-pip-version-check --no-deps "apache-flink==$VERSION" "apache-flink-libraries==$VERSION"
  unzip -q -o apache_flink_libraries-*.whl
  unzip -q -o "apache_flink-$VERSION"-*.whl 'pyflink/bin/*' 'pyflink/conf/*'
  for artifact in "flink-sql-gateway:$VERSION" "flink-sql-connector-kafka:$KAFKA_CONNECTOR"; do
    mvn -q -B dependency:copy -Dartifact="org.apache.flink:$artifact" -DoutputDirectory="$DIR/download/jars"
  done
  mv pyflink "$DIR/home"
  mv "$DIR/home/conf" "$DIR/home/conf.stock"
  cp "jars/flink-sql-gateway-$VERSION.jar" "$DIR/home/opt/"
  cp "jars/flink-sql-connector-kafka-$KAFKA_CONNECTOR.jar" "$DIR/home/lib/"
  chmod +x "$DIR"/home/bin/*
  cd "$DIR" && rm -rf download && touch whole
}

compile_source() {
  local stamp
  stamp=$(cat "$HERE"/nexmark/*.java | sha256sum | cut -c1-16)
  [ -e "$DIR/source-$stamp" ] && return
  need javac jar
  local out="$DIR/classes"
  rm -rf "$out" "$DIR"/source-* && mkdir -p "$out/META-INF/services"
  javac -nowarn -d "$out" -cp "$DIR/home/lib/*" "$HERE"/nexmark/*.java
  echo weir.nexmark.NexmarkTableFactory > "$out/META-INF/services/org.apache.flink.table.factories.Factory"
  jar cf "$DIR/home/lib/weir-nexmark.jar" -C "$out" .
  touch "$DIR/source-$stamp"
}

[ -e "$DIR/whole" ] || install_flink >&2
compile_source >&2
echo "$DIR"
