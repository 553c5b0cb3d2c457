#!/bin/sh
# What a node does at night: it fetches the newest version of the templates it is for, before anybody waits for them, drops
# the tags before, and what interrupted pulls left. By s3reg-node.timer or com.s3reg.node.plist.
#
#   s3reg-node.sh SECONDS TEMPLATE…    begins within so many seconds: not all nodes at once
#
# From the default remote (`s3reg add NAME URL`), with the login that is remembered there. A template that cannot be had keeps
# none of the others back; the exit status says that there was one.
set -u

spread=$1
shift
if [ "$spread" -gt 0 ]; then
    sleep $(($(od -An -N4 -tu4 /dev/urandom) % spread))
fi

status=0
for template in "$@"; do
    s3reg pull --quiet --shrink "$template" || status=1
done
s3reg vm delete --cache --yes || status=1
exit "$status"
