#!/bin/sh
# What a cluster needs once in its life, before its first node starts: the authority and the certificates by which its nodes know each other, the credentials
# of root and of the S3 store behind it, and the beginning of the cluster on its first node. What is there already stays as it is, so it runs at every `up`.
#
#   /run/tidegate                 what nodes are told: certificates, keys, credentials
#   /var/lib/tidegate-authority   the authority's key, which no node sees
#   /var/lib/tidegate             the data of the first node
set -eu
umask 077
secrets=/run/tidegate
authority=/var/lib/tidegate-authority
nodes=${TIDEGATE_NODES:-n1 n2 n3}
# Nobody is there to renew them in a network that only its nodes are in. From a day ago, for machines whose clocks are behind.
from=$(date -u -d '1 day ago' +%Y%m%d%H%M%SZ)
until=$(date -u -d '10 years' +%Y%m%d%H%M%SZ)

# Written beside and renamed: what was begun and cut off is begun again.
keep() { cat > "$secrets/$1.new" && mv "$secrets/$1.new" "$secrets/$1"; }
random() { openssl rand -hex "$1"; }

if [ ! -s "$authority/ca.key" ]; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -not_before "$from" -not_after "$until" -subj /CN=tidegate-cluster \
    -keyout "$authority/ca.key.new" -out "$authority/ca.pem" 2> /dev/null
  mv "$authority/ca.key.new" "$authority/ca.key"
fi
keep ca.pem < "$authority/ca.pem"

# $1: a name; $2: the hosts that it speaks for.
certify() {
  if [ -s "$secrets/$1.pem" ] && [ -s "$secrets/$1.key" ]; then return; fi
  work=$(mktemp -d)
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$1" -keyout "$work/key" -out "$work/csr" \
    -addext "subjectAltName=$2" -addext extendedKeyUsage=serverAuth,clientAuth 2> /dev/null
  openssl x509 -req -in "$work/csr" -CA "$authority/ca.pem" -CAkey "$authority/ca.key" -CAserial "$authority/ca.srl" -CAcreateserial \
    -not_before "$from" -not_after "$until" -copy_extensions copy -out "$work/pem" 2> /dev/null
  keep "$1.key" < "$work/key"
  keep "$1.pem" < "$work/pem"
  rm -r "$work"
}
for node in $nodes; do certify "$node" "DNS:$node"; done
# Nodes without a vote: they call the others, and answer neighbours, who know each other by the authority and a secret.
certify more DNS:more

# Given ones are taken over, also later ones; else they are made once.
credentials() {
  if [ -n "$2" ] && [ -n "$3" ]; then
    printf '%s\n' "$2" | keep "$1-user"
    printf '%s\n' "$3" | keep "$1-password"
  elif [ -n "$2$3" ]; then
    echo "of the user and the password of $1 only one is given" >&2
    exit 2
  elif [ ! -s "$secrets/$1-password" ]; then
    echo "$1-$(random 6)" | keep "$1-user"
    random 20 | keep "$1-password"
  fi
}
credentials root "${TIDEGATE_ROOT_USER:-}" "${TIDEGATE_ROOT_PASSWORD:-}"
credentials store '' ''
printf '[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n' "$(cat "$secrets/store-user")" "$(cat "$secrets/store-password")" |
  keep store-credentials

# Only once, and never again: a first node whose disk was lost joins the others, and begins no second cluster.
if [ ! -e "$secrets/begun" ]; then
  tidegate cluster init
  date -u +%Y-%m-%dT%H:%M:%SZ | keep begun
fi
echo 'the cluster is set up'
