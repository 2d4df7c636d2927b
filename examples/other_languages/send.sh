#!/usr/bin/env bash
# Sends {"type": "say", "text": TEXT} from redis-cli to a channel, or to a group.
#
#     send.sh channel 'specific.GV7Q2M4XKA!1' 'Good morning'
#     send.sh group news 'Good morning'
#
# Environment: SERVER (a URI), PREFIX, EXPIRY (seconds), CAPACITY, as in the settings of the site.
set -euo pipefail

server=${SERVER:-redis://localhost:6379} prefix=${PREFIX:-asgi}
expiry_ms=$((${EXPIRY:-60} * 1000)) capacity=${CAPACITY:-100}

if (($# != 3)); then
    sed -n 's/^# \?//; 2,6p' "$0" >&2
    exit 2
fi
kind=$1 name=$2 text=$3

# MessagePack: a map of two pairs; a string of up to 255 bytes is 0xd9, its length, its bytes.
packed() {
    local LC_ALL=C
    printf '\xd9%b%s' "\\x$(printf %02x ${#1})" "$1"
}
payload=$(printf '\x82'; packed type; packed say; packed text; packed "$text")

run() { # run SCRIPT KEY... , ARGUMENT...
    redis-cli -u "$server" --eval <(python3 -m hybrid_layer.remote.redis.scripts "$1") "${@:2}"
}

base="$prefix|1|"
case $kind in
    channel)
        if [[ $name == *!* ]]; then # a process-specific one: the inbox of its process or machine, which must be alive
            part=${name%%!*}!
            process=${part##*.}
            if [[ $process =~ ^([A-Z2-7]{10})-[A-Z2-7]{10}!$ ]]; then
                part=@${BASH_REMATCH[1]}!
                process=$part
            fi
            keys=("${base}inbox|$part" "${base}epoch|" "${base}alive|${process%!}")
        else
            keys=("${base}queue|$name" "${base}epoch|")
        fi
        run send "${keys[@]}" , "$payload" "$name" "$capacity" "$expiry_ms"
        ;;
    group)
        run group_send "${base}group|$name" "${base}epoch|" , "$payload" "$expiry_ms" "$capacity" "$base" 0 ''
        ;;
    *)
        echo "the first argument is channel or group, not $kind" >&2
        exit 2
        ;;
esac
