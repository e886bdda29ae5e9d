# Sourced by run.sh: one rank in each of two network namespaces, where root can make these, over a link that is slow and
# one that is cut.
near=psg-$$-a far=psg-$$-b
near_address=10.77.0.1 far_address=10.77.0.2 reach=10.77.0.0/24
agent=$folder/agent

end_link() { for one in "$near" "$far"; do ip netns del "$one" 2>/dev/null; done; }

make_end() {   # NAMESPACE DEVICE ADDRESS
    ip netns add "$1" && ip link set "$2" netns "$1" && ip -n "$1" addr add "$3/24" dev "$2" &&
        ip -n "$1" link set "$2" up && ip -n "$1" link set lo up
}

# What mpirun calls in the place of ssh: the host's name, then the command.
make_link() {
    ip link add "v$$a" type veth peer name "v$$b" && make_end "$near" "v$$a" "$near_address" &&
        make_end "$far" "v$$b" "$far_address" || return 1
    cat >"$agent" <<AGENT
#!/bin/sh
while [ "\${1#-}" != "\$1" ]; do shift; done
[ "\$1" = $near_address ] && there=$near || there=$far
shift
exec ip netns exec "\$there" sh -c "\$*"
AGENT
    chmod +x "$agent"
}

# The last three: a daemon whose link is dead is noticed after 4 + 2 x 3 seconds; Open MPI's default is five minutes.
over_the_link() {
    timeout 90 ip netns exec "$near" mpirun --mca plm_rsh_agent "$agent" --mca btl tcp,self \
        --mca oob_tcp_if_include "$reach" --mca btl_tcp_if_include "$reach" --mca oob_tcp_keepalive_time 4 \
        --mca oob_tcp_keepalive_intvl 2 --mca oob_tcp_keepalive_probes 3 \
        --host "$near_address:1,$far_address:1" -n 2 "$program" "$@" 2>"$log.err" >"$log"
}
gives_over_the_link() { expected=$1 && shift && over_the_link "$@" && [ "$(tail -n 1 "$log")" = "$expected" ]; }

# 5 ms each way where the kernel has netem, else a bucket that lets 20 Mbit/s through.
slow_link() {
    ip netns exec "$near" tc qdisc add dev "v$$a" root netem delay 5ms 2>/dev/null ||
        ip netns exec "$near" tc qdisc add dev "v$$a" root tbf rate 20mbit burst 16kb latency 200ms
}

ends_when_the_link_is_cut() {
    began=$(date +%s)
    # shellcheck disable=SC2086
    over_the_link $long --save "$folder/cut" &
    until [ -e "$folder/cut" ] || [ $(($(date +%s) - began)) -gt 20 ]; do sleep 0.1; done
    ip -n "$far" link set "v$$b" down
    cut=$(date +%s)
    ! wait "$!" && [ $(($(date +%s) - cut)) -lt 30 ]
}

goes_on_after_the_cut() {
    expected=$(without_batches "$(says 1 --steps 300)")
    # shellcheck disable=SC2086
    [ "$(without_batches "$(says 1 $long --load "$folder/cut")")" = "$expected" ]
}

if ! command -v ip >/dev/null || [ "${MPIRUN:-mpirun}" != mpirun ] || ! make_link 2>/dev/null; then
    echo "two network namespaces: not run, cannot be made here"
else
    long="--steps 300 --ledger $folder/cut-ledger"
    check "two namespaces: the bits of one rank" gives_over_the_link "$one"
    slow_link || echo "a slow link: not run, the kernel has neither netem nor tbf"
    check "over a slow link: the bits of one rank" gives_over_the_link "$one"
    check "the job ends when the link is cut" ends_when_the_link_is_cut
    check "nothing half-written is left" test ! -e "$folder/cut.psg-tmp"
    check "it goes on to the bits of a run without the cut" goes_on_after_the_cut
fi
end_link
