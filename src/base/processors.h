/* How many threads of this process can run at a time: its affinity mask and the CPU quotas of its cgroups. */
#ifndef PSG_BASE_PROCESSORS_H
#define PSG_BASE_PROCESSORS_H

/* At least 1.  Elsewhere than on Linux: the processors that are online. */
unsigned psg_processors(void);

/* The smaller of processors (at least 1) and the tightest CPU quota among the process's cgroup and its ancestors,
 * quota / period rounded up.  root stands before /proc/self/cgroup and /sys/fs/cgroup: "" for the machine's own.  What
 * is missing or malformed there is no limit. */
unsigned psg_processors_by_quota(const char *root, unsigned processors);

#endif
