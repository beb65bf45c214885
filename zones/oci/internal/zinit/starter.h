// The starter: a small process beside the host's program that makes the first process of each zone. It is asked over a socket, clones
// itself into new namespaces and answers with the number; the clone, which is the host program's child, carries out the plan
// and becomes the in-zone init without ever executing anything. So a start costs a fork of some hundred kilobytes, and
// neither the start of a Go program nor a fork of a large one. The starter itself reads nothing but orders: what a zone is told is read by
// that zone's own process. Part of zinit_linux.c.
#ifndef MOBULA_ZINIT_STARTER_H
#define MOBULA_ZINIT_STARTER_H

#include "setup.h"

static void run(void);

// The starter's own descriptors, above those that a zone's init expects, which are kept taken; in a new process they are
// the host's end and the console.
enum { CONTROL = 5, OWN_NET, FIRST_FREE };

static int put_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ssize_t n = write(fd, text, strlen(text));
	int e = errno;
	close(fd);
	errno = e;
	return n < 0 ? -1 : 0;
}

static int map_ids(pid_t pid, const char *map, uint32_t inside, uint32_t first, uint32_t size)
{
	char path[64], text[64];
	snprintf(path, sizeof path, "/proc/%d/%s", pid, map);
	snprintf(text, sizeof text, "%u %u %u\n", inside, first, size);
	return put_file(path, text);
}

// join_groups waits until the host says go on, and joins the control groups whose files come with that. Each has one thread, the one that
// writes: for it alone, the kernel need not hold up every fork on the machine for a grace period.
static void join_groups(void)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(ZS_MAX_GROUPS * sizeof(int))];
	} control;
	char word;
	struct iovec iov = {&word, 1};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
	if (recvmsg(host, &h, MSG_CMSG_CLOEXEC) != 1) // ids and control groups are not ours yet, or the host has died
		_exit(125);
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&h); c; c = CMSG_NXTHDR(&h, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
			if (write(fd, "0", 1) < 0)
				die("join a control group");
			close(fd);
		}
	}
}

// become_zone is what a new process does from its first instruction until it is the zone's init. It does not return.
static void become_zone(const struct zorder *o, int *files, int nfiles)
{
	close(CONTROL);
	close(OWN_NET);
	signal(SIGCHLD, SIG_DFL);
	host = files[ZS_SYNC];
	single = (o->flags & ZS_SINGLE) != 0;
	if (o->type == ZS_USERNS) { // only there to hold the namespace until it is opened
		char word;
		ssize_t ignored = read(host, &word, 1);
		(void)ignored;
		_exit(0);
	}
	join_groups();
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	setsid();
	umask(022);
	if (!single && setgroups(0, NULL) < 0)
		die("drop groups");
	if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
		die("become the zone's root");
	// Keys of the host's session are not the zone's.
	if (syscall(SYS_keyctl, 1 /* KEYCTL_JOIN_SESSION_KEYRING */, NULL) < 0 && errno != ENOSYS)
		die("leave the session's keys");
	if (o->type == ZS_START) {
		if (unshare(CLONE_NEWCGROUP) < 0)
			die("new control group namespace");
		follow_plan(files[ZS_PLAN], files + ZS_FIXED, nfiles - ZS_FIXED);
	} else if (chdir("/") < 0)
		die("go to the root");
	// The console may be where the host's end is to be, so both step aside first.
	if ((host = fcntl(host, F_DUPFD_CLOEXEC, ZS_MAX_FILES)) < 0 || (console >= 0 && (console = fcntl(console, F_DUPFD_CLOEXEC, ZS_MAX_FILES)) < 0) ||
	    dup2(files[ZS_LISTEN], ZINIT_LISTEN_FD) < 0 || dup2(files[ZS_CONFIG], ZINIT_CONFIG_FD) < 0 ||
	    dup3(host, CONTROL, O_CLOEXEC) < 0 || (console >= 0 && dup3(console, OWN_NET, O_CLOEXEC) < 0))
		die("descriptors");
	host = CONTROL;
	if (console >= 0)
		console = OWN_NET;
	if (syscall(SYS_close_range, FIRST_FREE, ~0U, 0) < 0)
		die("close descriptors");
	run();
}

// tell_host says that the zone stands, once nothing can fail any more.
static void tell_host(void)
{
	struct zreport r = {0};
	if (host < 0)
		return;
	send_all(host, &r, sizeof r);
	close(host);
	host = -1;
}

// new_process clones the calling process for the caller's parent. It returns as fork does.
static pid_t new_process(uint64_t flags, int group)
{
	struct clone_args a = {.flags = flags | CLONE_PARENT};
	if (group >= 0) { // of version 2: to be born in it costs less than to move there
		a.flags |= CLONE_INTO_CGROUP;
		a.cgroup = group;
	}
	return syscall(SYS_clone3, &a, sizeof a);
}

static struct zpid start_zone(const struct zorder *o, int *files, int nfiles)
{
	struct zpid answer = {0, 0};
	uint64_t flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC;
	int net = -1, last = nfiles - 1;
	if (o->type == ZS_USERNS)
		flags = CLONE_NEWUSER;
	else if (o->flags & ZS_NETNS) {
		net = files[last--];
		// Everybody in there may bind low ports and ping, as the zone's root has no power over a namespace that is not its own.
		if (setns(net, CLONE_NEWNET) < 0 || put_file("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0") < 0 ||
		    put_file("/proc/sys/net/ipv4/ping_group_range", "0 2147483647") < 0)
			answer.error = errno;
	} else
		flags |= CLONE_NEWNET;
	int group = o->flags & ZS_GROUP ? files[last] : -1;
	if (!answer.error) {
		pid_t pid = new_process(flags, group);
		if (pid == 0)
			become_zone(o, files, nfiles);
		if (pid < 0)
			answer.error = errno;
		else {
			char path[64];
			answer.pid = pid;
			snprintf(path, sizeof path, "/proc/%d/setgroups", pid);
			if ((o->flags & ZS_SINGLE) && put_file(path, "deny") < 0)
				answer.error = errno;
			else if (map_ids(pid, "uid_map", o->inside, o->flags & ZS_SINGLE ? geteuid() : o->first, o->size) < 0 ||
				 map_ids(pid, "gid_map", o->inside, o->flags & ZS_SINGLE ? getegid() : o->first, o->size) < 0)
				answer.error = errno;
		}
	}
	if (net >= 0 && setns(OWN_NET, CLONE_NEWNET) < 0)
		_exit(125); // the next zone would get this one's
	return answer;
}

// enter_zone makes a process in the zone of a pidfd. A process cannot move into a pid namespace, so one in between does.
static struct zpid enter_zone(const struct zorder *o, int *files, int nfiles)
{
	struct zpid answer = {EIO, 0};
	int pipefd[2];
	if (pipe2(pipefd, O_CLOEXEC) < 0) {
		answer.error = errno;
		return answer;
	}
	pid_t between = fork();
	if (between == 0) {
		close(pipefd[0]);
		answer.error = 0;
		if (setns(files[nfiles - 1], CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP) < 0)
			answer.error = errno;
		else {
			pid_t pid = new_process(0, -1);
			if (pid == 0) {
				close(pipefd[1]);
				become_zone(o, files, nfiles);
			}
			answer.pid = pid > 0 ? pid : 0;
			answer.error = pid > 0 ? 0 : errno;
		}
		ssize_t ignored = write(pipefd[1], &answer, sizeof answer);
		(void)ignored;
		_exit(0);
	}
	close(pipefd[1]);
	if (between < 0)
		answer.error = errno;
	else if (read(pipefd[0], &answer, sizeof answer) != sizeof answer)
		answer.error = EIO;
	close(pipefd[0]);
	return answer;
}

// serve_orders is the starter's life. It ends with the host's program, whose end of the socket closes then.
static void serve_orders(void)
{
	static int files[ZS_MAX_FILES + 1];
	static union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof files)];
	} control;
	if (dup3(ZINIT_LISTEN_FD, CONTROL, O_CLOEXEC) < 0)
		_exit(125);
	int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || (fd != OWN_NET && dup3(fd, OWN_NET, O_CLOEXEC) < 0))
		_exit(125);
	if ((fd = open("/dev/null", O_RDWR)) < 0)
		_exit(125);
	for (int i = 0; i < CONTROL; i++)
		if (i != fd)
			dup2(fd, i);
	// The program may itself have been given more than it should pass on.
	if (syscall(SYS_close_range, FIRST_FREE, ~0U, 0) < 0)
		_exit(125);
	cpu_set_t all;
	memset(&all, 0xff, sizeof all);
	sched_setaffinity(0, sizeof all, &all); // whatever the program was bound to, zones are not
	signal(SIGCHLD, SIG_IGN);
	prctl(PR_SET_NAME, "zstarter");
	for (;;) {
		struct zorder o;
		struct iovec iov = {&o, sizeof o};
		struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
		ssize_t n = recvmsg(CONTROL, &h, MSG_CMSG_CLOEXEC);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			_exit(0);
		int nfiles = 0;
		for (struct cmsghdr *c = CMSG_FIRSTHDR(&h); c; c = CMSG_NXTHDR(&h, c))
			if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
				nfiles = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
				memcpy(files, CMSG_DATA(c), sizeof(int) * nfiles);
			}
		struct zpid answer = {EINVAL, 0};
		if (n == sizeof o && nfiles >= ZS_FIXED && !(h.msg_flags & MSG_CTRUNC)) {
			if (o.type == ZS_START || o.type == ZS_USERNS)
				answer = start_zone(&o, files, nfiles);
			else if (o.type == ZS_ENTER && nfiles > ZS_FIXED)
				answer = enter_zone(&o, files, nfiles);
		}
		for (int i = 0; i < nfiles; i++)
			close(files[i]);
		if (send(CONTROL, &answer, sizeof answer, MSG_NOSIGNAL) != sizeof answer)
			_exit(0);
	}
}

#endif
