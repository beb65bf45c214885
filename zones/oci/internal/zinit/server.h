// Connections from the host: answers, and what becomes of a program when its connection goes. Part of zinit_linux.c.
#ifndef MOBULA_ZINIT_SERVER_H
#define MOBULA_ZINIT_SERVER_H

#include "state.h"

static int send_all(int fd, const void *data, size_t n)
{
	const char *at = data;
	while (n > 0) {
		ssize_t w = send(fd, at, n, MSG_NOSIGNAL);
		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return -1;
		at += w;
		n -= w;
	}
	return 0;
}

static int reply(int fd, uint32_t type, uint32_t a, uint32_t b, int pass)
{
	struct zmsg m = {type, a, b, 0};
	struct iovec iov = {&m, sizeof m};
	char control[CMSG_SPACE(sizeof(int))] = {0};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
	if (pass >= 0) {
		h.msg_control = control;
		h.msg_controllen = sizeof control;
		struct cmsghdr *c = CMSG_FIRSTHDR(&h);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &pass, sizeof pass);
	}
	return sendmsg(fd, &h, MSG_NOSIGNAL) == sizeof m ? 0 : -1;
}

static void drop(struct conn *c)
{
	if (c->fd >= 0)
		close(c->fd);
	if (c->report >= 0)
		close(c->report);
	if (c->master >= 0)
		close(c->master);
	memset(c, 0, sizeof *c);
	c->fd = c->report = c->master = -1;
}

// console_put keeps what the console shows and passes it on to those who watch. What this process itself has to say goes here too, and not
// through the terminal: nobody but it would make room there.
static void console_put(const char *data, size_t n)
{
	for (size_t i = 0; i < n; i++)
		ring[ring_end++ % RING] = data[i];
	for (int i = 0; i < MAX_CONNS; i++)
		if (conns[i].kind == CONSOLE && send(conns[i].fd, data, n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EAGAIN)
			drop(&conns[i]); // a slow watcher misses some, a dead one goes
}

// session_of reads the session of a process from /proc, -1 if it is gone.
static pid_t session_of(const char *pid)
{
	char name[64], text[512];
	snprintf(name, sizeof name, "/proc/%.16s/stat", pid);
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ssize_t n = read(fd, text, sizeof text - 1);
	close(fd);
	if (n <= 0)
		return -1;
	text[n] = 0;
	char *after = strrchr(text, ')'); // the name before it may hold anything
	int parent, group, session;
	if (!after || sscanf(after + 1, " %*c %d %d %d", &parent, &group, &session) != 3)
		return -1;
	return session;
}

// end_session kills a program and whatever is left of the session it led.
static void end_session(pid_t leader)
{
	kill(-leader, SIGKILL);
	kill(leader, SIGKILL);
	DIR *d = opendir("/proc");
	if (!d)
		return;
	for (struct dirent *e; (e = readdir(d));)
		if (e->d_name[0] >= '1' && e->d_name[0] <= '9' && session_of(e->d_name) == leader)
			kill(atoi(e->d_name), SIGKILL);
	closedir(d);
}

static void hang_up(struct conn *c)
{
	pid_t pid = c->kind == STARTING || c->kind == RUNNING ? c->pid : 0;
	int alone = c->alone;
	if (c->ended)
		pid = 0;
	drop(c);
	if (pid > 0 && alone)
		kill(-1, SIGKILL);
	else if (pid > 0)
		end_session(pid);
}

#endif
