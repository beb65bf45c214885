//go:build linux

// The in-zone init: process 1 of a zone, or a server beside the zone's own process 1. See doc.go for what it does and wire.h
// for what it speaks.
//
// It is C and not Go because it runs before the Go runtime would: a constructor takes over when the program is
// started with ZINIT_ENV set, so a zone's init costs some hundred kilobytes and a fork of it is cheap, though it is
// the same file as the host program. It allocates only while a request is read, and trusts the host alone: nothing
// that a program in the zone can write to is parsed here.

#define _GNU_SOURCE
#include "wire.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif

enum { MAX_CONNS = 512, MAX_SERVICES = 64, RING = 64 * 1024 };

// ---- programs ------------------------------------------------------------------------------------------------------

// program is what a request or the configuration describes; its pointers lead into one buffer.
struct program {
	uint32_t flags, uid, gid, rows, cols, ngroups, nargs, nenv;
	uint64_t memlock; // bytes, 0 leaves the limit as it is
	const char *name, *dir;
	gid_t *groups;
	char **argv, **envp;
	char *buffer; // freed with it, if set
};

struct reader {
	char *at, *end;
	int bad;
};

static uint32_t get32(struct reader *r)
{
	uint32_t v = 0;
	if (r->end - r->at < 4)
		r->bad = 1;
	else {
		memcpy(&v, r->at, 4);
		r->at += 4;
	}
	return v;
}

static uint64_t get64(struct reader *r)
{
	uint64_t low = get32(r);
	return low | (uint64_t)get32(r) << 32;
}

// get_bytes is a run of bytes with its length before it; text is followed by a zero that the length leaves out.
static char *get_bytes(struct reader *r, uint32_t *len)
{
	static char empty[1];
	uint32_t n = get32(r);
	if (r->bad || (uint64_t)(r->end - r->at) < (uint64_t)n + 1 || r->at[n] != 0) {
		r->bad = 1;
		*len = 0;
		return empty;
	}
	char *p = r->at;
	r->at += n + 1;
	*len = n;
	return p;
}

static char *get_text(struct reader *r)
{
	uint32_t n;
	return get_bytes(r, &n);
}

static char **get_list(struct reader *r, uint32_t *count)
{
	uint32_t n = get32(r);
	*count = 0;
	if (r->bad || n > (uint32_t)(r->end - r->at) / 5) {
		r->bad = 1;
		return NULL;
	}
	char **list = calloc(n + 1, sizeof *list);
	if (!list) {
		r->bad = 1;
		return NULL;
	}
	for (uint32_t i = 0; i < n; i++)
		list[i] = get_text(r);
	*count = n;
	return list;
}

static void get_program(struct reader *r, struct program *p)
{
	memset(p, 0, sizeof *p);
	p->flags = get32(r);
	p->uid = get32(r);
	p->gid = get32(r);
	p->rows = get32(r);
	p->cols = get32(r);
	p->memlock = get64(r);
	p->name = get_text(r);
	p->dir = get_text(r);
	p->ngroups = get32(r);
	if (p->ngroups > 65536 || p->ngroups > (uint32_t)(r->end - r->at) / 4)
		r->bad = 1;
	else if ((p->groups = calloc(p->ngroups + 1, sizeof *p->groups)))
		for (uint32_t i = 0; i < p->ngroups; i++)
			p->groups[i] = get32(r);
	p->argv = get_list(r, &p->nargs);
	p->envp = get_list(r, &p->nenv);
	if (!p->groups || !p->argv || !p->envp || p->nargs == 0)
		r->bad = 1;
}

static void free_program(struct program *p)
{
	free(p->groups);
	free(p->argv);
	free(p->envp);
	free(p->buffer);
	memset(p, 0, sizeof *p);
}

// exec_path runs argv[0], looking for it on the program's own PATH as a shell does.
static void exec_path(struct program *p)
{
	const char *file = p->argv[0], *path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	if (strchr(file, '/')) {
		execve(file, p->argv, p->envp);
		return;
	}
	for (uint32_t i = 0; i < p->nenv; i++)
		if (!strncmp(p->envp[i], "PATH=", 5))
			path = p->envp[i] + 5;
	int answer = ENOENT;
	char full[PATH_MAX];
	while (*path) {
		size_t n = strcspn(path, ":");
		if (n > 0 && n + strlen(file) + 2 < sizeof full) {
			memcpy(full, path, n);
			full[n] = '/';
			strcpy(full + n + 1, file);
			execve(full, p->argv, p->envp);
			if (errno != ENOENT && errno != ENOTDIR)
				answer = errno;
		}
		path += n + (path[n] == ':');
	}
	errno = answer;
}

// become turns the calling process, a fresh fork, into the program. It returns only if that fails, with errno set.
static void become(struct program *p, int in, int out, int err, int tty)
{
	sigset_t none;
	sigemptyset(&none);
	setsid();
	if (tty && ioctl(in, TIOCSCTTY, 0) < 0)
		return;
	// Move them above 2 first, so that none is overwritten before it is used.
	int fds[3] = {in, out, err};
	for (int i = 0; i < 3; i++)
		if (fds[i] < 3 && (fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3)) < 0)
			return;
	for (int i = 0; i < 3; i++)
		if (dup2(fds[i], i) < 0)
			return;
	if (p->memlock) {
		struct rlimit l = {p->memlock, p->memlock};
		setrlimit(RLIMIT_MEMLOCK, &l); // raising it is not allowed in a zone; lowering always is
	}
	if (setgroups(p->ngroups, p->groups) < 0 || setresgid(p->gid, p->gid, p->gid) < 0 ||
	    setresuid(p->uid, p->uid, p->uid) < 0)
		return;
	if (chdir(*p->dir ? p->dir : "/") < 0)
		return;
	if ((p->flags & ZP_NO_NEW_PRIVS) && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return;
	for (int s = 1; s < NSIG; s++)
		signal(s, SIG_DFL);
	sigprocmask(SIG_SETMASK, &none, NULL);
	exec_path(p);
}

// spawn starts the program. *report becomes a pipe that gives an errno if it could not be started and just ends if it
// could. The fds stay the caller's.
static pid_t spawn(struct program *p, int in, int out, int err, int tty, int *report)
{
	int pipefd[2];
	if (pipe2(pipefd, O_CLOEXEC) < 0)
		return -1;
	pid_t pid = fork();
	if (pid == 0) {
		become(p, in, out, err, tty);
		int e = errno;
		ssize_t ignored = write(pipefd[1], &e, sizeof e);
		(void)ignored;
		_exit(127);
	}
	int e = errno;
	close(pipefd[1]);
	if (pid < 0) {
		close(pipefd[0]);
		errno = e;
		return -1;
	}
	*report = pipefd[0];
	return pid;
}

// ---- state -------------------------------------------------------------------------------------------------------

enum kind { FREE, FRESH, STARTING, RUNNING, CONSOLE };

struct conn {
	enum kind kind;
	int fd, report, master;
	pid_t pid;
	int ended, status; // it ended before its start was reported
};

struct service {
	struct program p;
	pid_t pid;
	time_t again; // when to start it again, 0 for not
};

static struct conn conns[MAX_CONNS];
static struct service services[MAX_SERVICES];
static int nservices, main_service = -1;
static int listener = ZINIT_LISTEN_FD, signals = -1, console = -1, devnull = -1;
static int is_init, begun, stopping, stop_signal = SIGTERM, exit_code;
static char ring[RING];
static uint64_t ring_end;

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
	if (c->ended)
		pid = 0;
	drop(c);
	if (pid > 0)
		end_session(pid);
}

// ---- services ------------------------------------------------------------------------------------------------------

static void say(const char *what, const char *name)
{
	dprintf(2, "init: %s: %s: %s\n", name, what, strerror(errno));
}

// start_service returns 0, or the errno of what kept it from running.
static int start_service(struct service *s)
{
	int report = -1, tty = (s->p.flags & ZP_TTY) != 0;
	s->again = 0;
	s->pid = spawn(&s->p, tty ? 0 : devnull, 1, 2, tty, &report);
	if (s->pid < 0) {
		say("fork", s->p.name);
		s->pid = 0;
		s->again = time(NULL) + 1;
		return EAGAIN;
	}
	int e = 0;
	if (read(report, &e, sizeof e) == sizeof e) {
		errno = e;
		say(s->p.argv[0], s->p.name);
	} else
		e = 0;
	close(report);
	return e;
}

// shut_down begins the end of the zone: everybody is asked, and after the last has gone, or been killed, process 1 goes.
static void shut_down(void)
{
	if (stopping)
		return;
	stopping = 1;
	if (main_service >= 0 && services[main_service].pid > 0) {
		kill(services[main_service].pid, stop_signal);
		return; // its end brings us to the others
	}
	kill(-1, SIGTERM);
	kill(-1, SIGHUP); // interactive shells ignore SIGTERM
	kill(-1, SIGCONT);
}

static void finish(int code)
{
	kill(-1, SIGKILL);
	_exit(code);
}

static int code_of(int status)
{
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void reap(void)
{
	int status;
	pid_t pid;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (int i = 0; i < MAX_CONNS; i++) {
			struct conn *c = &conns[i];
			if (c->pid != pid || (c->kind != STARTING && c->kind != RUNNING))
				continue;
			c->ended = 1;
			c->status = status;
			if (c->kind == RUNNING) {
				reply(c->fd, ZM_EXITED, status, 0, -1);
				drop(c);
			}
		}
		for (int i = 0; i < nservices; i++) {
			struct service *s = &services[i];
			if (s->pid != pid)
				continue;
			s->pid = 0;
			if (i == main_service) {
				exit_code = code_of(status);
				finish(exit_code);
			}
			if ((s->p.flags & ZP_RESTART) && !stopping)
				s->again = time(NULL) + 1;
		}
	}
	if (stopping && pid < 0 && errno == ECHILD && is_init)
		finish(exit_code);
}

// ---- requests -------------------------------------------------------------------------------------------------------

static int new_terminal(uint32_t rows, uint32_t cols, int *slave)
{
	int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC), zero = 0;
	if (master < 0)
		return -1;
	struct winsize w = {.ws_row = rows ? rows : 24, .ws_col = cols ? cols : 80};
	if (ioctl(master, TIOCSPTLCK, &zero) < 0 || ioctl(master, TIOCSWINSZ, &w) < 0 ||
	    (*slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC)) < 0) {
		close(master);
		return -1;
	}
	return master;
}

static void request_exec(struct conn *c, char *body, uint32_t len, int *fds, int nfds)
{
	struct program p;
	struct reader r = {body, body + len, 0};
	get_program(&r, &p);
	int tty = (p.flags & ZP_TTY) != 0, slave = -1, in = -1, out = -1, err = -1, next = 0;
	if (r.bad || r.at != r.end) {
		errno = EINVAL;
		goto fail;
	}
	if (tty) {
		if ((c->master = new_terminal(p.rows, p.cols, &slave)) < 0)
			goto fail;
		if (p.uid && fchown(slave, p.uid, (gid_t)-1) < 0)
			goto fail;
		in = out = err = slave;
	} else {
		int *streams[3] = {&in, &out, &err};
		for (int i = 0; i < 3; i++)
			*streams[i] = (p.flags & (ZP_STDIN << i)) && next < nfds ? fds[next++] : devnull;
	}
	c->pid = spawn(&p, in, out, err, tty, &c->report);
	if (c->pid < 0) {
		c->pid = 0;
		goto fail;
	}
	c->kind = STARTING;
	if (slave >= 0)
		close(slave);
	free_program(&p);
	return;
fail:;
	int e = errno;
	if (slave >= 0)
		close(slave);
	free_program(&p);
	reply(c->fd, ZM_FAILED, e, 0, -1);
	drop(c);
}

// started reads what the report pipe says of a program on its way.
static void started(struct conn *c)
{
	int e = 0;
	ssize_t n = read(c->report, &e, sizeof e);
	close(c->report);
	c->report = -1;
	if (n == sizeof e) {
		if (!c->ended)
			waitpid(c->pid, NULL, 0);
		reply(c->fd, ZM_FAILED, e, 0, -1);
		drop(c);
		return;
	}
	c->kind = RUNNING;
	if (reply(c->fd, ZM_STARTED, c->pid, 0, c->master) < 0) {
		hang_up(c);
		return;
	}
	if (c->master >= 0) {
		close(c->master);
		c->master = -1;
	}
	if (c->ended) {
		reply(c->fd, ZM_EXITED, c->status, 0, -1);
		drop(c);
	}
}

// make_file makes an empty file, and the directories above it, to mount over. No link is followed anywhere.
static int make_file(char *path)
{
	int dir = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	for (char *at = path; dir >= 0;) {
		while (*at == '/')
			at++;
		char *end = strchr(at, '/');
		if (!end) {
			int fd = *at ? openat(dir, at, O_RDONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0444) : -1;
			int e = *at ? errno : EISDIR;
			close(dir);
			struct stat st;
			if (fd >= 0 && (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))) {
				close(fd);
				fd = -1;
				e = EEXIST;
			}
			errno = e;
			return fd;
		}
		*end = 0;
		if (mkdirat(dir, at, 0755) < 0 && errno != EEXIST && errno != EROFS)
			break;
		int below = openat(dir, at, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		close(dir);
		dir = below;
		at = end + 1;
	}
	int e = errno;
	if (dir >= 0)
		close(dir);
	errno = e;
	return -1;
}

static void attach_console(struct conn *c)
{
	reply(c->fd, ZM_OK, console >= 0, 0, -1);
	uint64_t from = ring_end > RING ? ring_end - RING : 0;
	while (from < ring_end) {
		size_t at = from % RING, n = RING - at;
		if (n > ring_end - from)
			n = ring_end - from;
		if (send_all(c->fd, ring + at, n) < 0)
			break;
		from += n;
	}
	fcntl(c->fd, F_SETFL, O_NONBLOCK);
	c->kind = CONSOLE;
}

static void begin(int fd);

static void request(struct conn *c)
{
	struct zmsg m;
	struct iovec iov = {&m, sizeof m};
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int) * 3)];
	} control;
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
	ssize_t n = recvmsg(c->fd, &h, MSG_CMSG_CLOEXEC | MSG_WAITALL);
	int fds[3], nfds = 0;
	for (struct cmsghdr *cm = n >= 0 ? CMSG_FIRSTHDR(&h) : NULL; cm; cm = CMSG_NXTHDR(&h, cm))
		if (cm->cmsg_level == SOL_SOCKET && cm->cmsg_type == SCM_RIGHTS) {
			nfds = (cm->cmsg_len - CMSG_LEN(0)) / sizeof(int);
			memcpy(fds, CMSG_DATA(cm), sizeof(int) * nfds);
		}
	char *body = NULL;
	if (n != sizeof m || m.length > ZINIT_MAX_BODY || (m.length && !(body = malloc((size_t)m.length + 1)))) {
		hang_up(c);
		goto done;
	}
	for (uint32_t got = 0; got < m.length; got += n)
		if ((n = recv(c->fd, body + got, m.length - got, MSG_WAITALL)) <= 0) {
			hang_up(c);
			goto done;
		}
	if (body)
		body[m.length] = 0;
	int fd;
	switch (m.type) {
	case ZM_EXEC:
		if (c->kind == FRESH)
			request_exec(c, body, m.length, fds, nfds);
		break;
	case ZM_SIGNAL:
		if (c->kind == RUNNING && !c->ended && kill(-c->pid, m.a) < 0)
			kill(c->pid, m.a);
		break;
	case ZM_CONSOLE:
		attach_console(c);
		break;
	case ZM_SET_CONSOLE:
		if (nfds == 1) {
			if (console >= 0)
				close(console);
			console = fds[0];
			nfds = 0;
			fcntl(console, F_SETFL, O_NONBLOCK);
		}
		begin(c->fd);
		break;
	case ZM_RESIZE:
		if (console >= 0) {
			struct winsize w = {.ws_row = m.a, .ws_col = m.b};
			ioctl(console, TIOCSWINSZ, &w);
		}
		reply(c->fd, ZM_OK, 0, 0, -1);
		break;
	case ZM_MAKE_FILE:
		fd = body ? make_file(body) : -1;
		reply(c->fd, fd < 0 ? ZM_FAILED : ZM_OK, fd < 0 ? errno : 0, 0, fd);
		if (fd >= 0)
			close(fd);
		break;
	default:
		hang_up(c);
	}
done:
	for (int i = 0; i < nfds; i++)
		close(fds[i]);
	free(body);
}

// begin starts the zone's programs once the host has given the console, so that it misses nothing they print, and tells the
// host whether the main one runs.
static void begin(int fd)
{
	int e = 0;
	for (int i = 0; !begun && i < nservices; i++) {
		int failed = start_service(&services[i]);
		if (i == main_service)
			e = failed;
		if (e)
			break;
	}
	begun = 1;
	reply(fd, e ? ZM_FAILED : ZM_OK, e, 0, -1);
}

static void console_out(void)
{
	char data[4096];
	ssize_t n = read(console, data, sizeof data);
	if (n <= 0) {
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0 && errno == EIO) { // nobody has the other end open; somebody may again
			struct timespec pause = {0, 50 * 1000 * 1000};
			nanosleep(&pause, NULL);
			return;
		}
		close(console);
		console = -1;
		return;
	}
	for (ssize_t i = 0; i < n; i++)
		ring[ring_end++ % RING] = data[i];
	for (int i = 0; i < MAX_CONNS; i++)
		if (conns[i].kind == CONSOLE && send(conns[i].fd, data, n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EAGAIN)
			drop(&conns[i]); // a slow watcher misses some, a dead one goes
}

static void console_in(struct conn *c)
{
	char data[4096];
	ssize_t n = recv(c->fd, data, sizeof data, MSG_DONTWAIT);
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		drop(c);
		return;
	}
	for (ssize_t at = 0; at < n && console >= 0;) {
		ssize_t w = write(console, data + at, n - at);
		if (w <= 0)
			break;
		at += w;
	}
}

static void take_connection(void)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		return;
	struct timeval patience = {.tv_sec = 5};
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
	for (int i = 0; i < MAX_CONNS; i++)
		if (conns[i].kind == FREE) {
			conns[i].kind = FRESH;
			conns[i].fd = fd;
			return;
		}
	reply(fd, ZM_FAILED, EAGAIN, 0, -1);
	close(fd);
}

static void take_signals(void)
{
	struct signalfd_siginfo s;
	while (read(signals, &s, sizeof s) == sizeof s) {
		switch (s.ssi_signo) {
		case SIGCHLD:
			break;
		case SIGTERM:
		case SIGPWR:
		case 37: // SIGRTMIN+3, what systemd takes for halt
			if (is_init)
				shut_down();
			break;
		default:
			if (main_service >= 0 && services[main_service].pid > 0)
				kill(services[main_service].pid, s.ssi_signo);
		}
	}
	reap();
}

// serve is the loop. It does not return.
static void serve(void)
{
	static struct pollfd polls[2 * MAX_CONNS + 3];
	static int owner[2 * MAX_CONNS + 3];
	for (;;) {
		int n = 0, timeout = -1;
		polls[n++] = (struct pollfd){.fd = signals, .events = POLLIN};
		polls[n++] = (struct pollfd){.fd = listener, .events = POLLIN};
		polls[n++] = (struct pollfd){.fd = console, .events = POLLIN};
		for (int i = 0; i < MAX_CONNS; i++) {
			if (conns[i].kind == FREE)
				continue;
			owner[n] = i;
			polls[n++] = (struct pollfd){.fd = conns[i].fd, .events = POLLIN};
			if (conns[i].kind == STARTING) {
				owner[n] = i;
				polls[n++] = (struct pollfd){.fd = conns[i].report, .events = POLLIN};
			}
		}
		time_t now = time(NULL);
		for (int i = 0; i < nservices; i++)
			if (services[i].again) {
				if (services[i].again <= now && !stopping)
					start_service(&services[i]);
				else
					timeout = 1000;
			}
		if (poll(polls, n, timeout) < 0)
			continue;
		// Programs on their way come first: what is known of a start is told before what is known of an end.
		for (int i = 3; i < n; i++) {
			struct conn *c = &conns[owner[i]];
			if (polls[i].revents && c->kind == STARTING && polls[i].fd == c->report)
				started(c);
		}
		for (int i = 3; i < n; i++) {
			struct conn *c = &conns[owner[i]];
			if (!polls[i].revents || c->kind == FREE || polls[i].fd != c->fd)
				continue;
			if (c->kind == CONSOLE)
				console_in(c);
			else
				request(c);
		}
		if (polls[2].revents)
			console_out();
		if (polls[0].revents)
			take_signals();
		if (polls[1].revents)
			take_connection();
	}
}

// ---- start -----------------------------------------------------------------------------------------------------------

static void die(const char *what)
{
	dprintf(2, "init: %s: %s\n", what, strerror(errno));
	_exit(125);
}

// lock_down gives up what the zone may not have: the filter first, while that is still allowed.
static void lock_down(uint64_t caps, char *filter, uint32_t len, uint32_t flags)
{
	if ((flags & ZC_NO_NEW_PRIVS) && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		die("no_new_privs");
	if (len) {
		struct sock_fprog prog = {.len = len / sizeof(struct sock_filter), .filter = (struct sock_filter *)filter};
		if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) < 0)
			die("seccomp");
	}
	for (int c = 0; c < 64; c++) {
		if (prctl(PR_CAPBSET_READ, c, 0, 0, 0) < 0)
			break;
		if (!(caps >> c & 1) && prctl(PR_CAPBSET_DROP, c, 0, 0, 0) < 0)
			die("drop capability");
	}
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct d[2] = {{caps, caps, 0}, {caps >> 32, caps >> 32, 0}};
	if (syscall(SYS_capset, &h, d) < 0)
		die("capset");
}

static char *read_all(int fd, size_t *len)
{
	size_t size = 64 * 1024, n = 0;
	char *data = malloc(size);
	for (ssize_t got; data && (got = read(fd, data + n, size - n - 1)) != 0;) {
		if (got < 0) {
			if (errno == EINTR)
				continue;
			die("read configuration");
		}
		n += got;
		if (n == size - 1) {
			if (size > 2 * ZINIT_MAX_BODY)
				die("configuration too large");
			data = realloc(data, size *= 2);
		}
	}
	if (!data)
		die("memory");
	data[n] = 0;
	*len = n;
	return data;
}

static void run(void)
{
	size_t len;
	char *config = read_all(ZINIT_CONFIG_FD, &len);
	close(ZINIT_CONFIG_FD);
	struct reader r = {config, config + len, 0};
	uint32_t version = get32(&r), flags = get32(&r), filter_len;
	uint64_t caps = get64(&r);
	char *filter = get_bytes(&r, &filter_len);
	stop_signal = get32(&r);
	nservices = get32(&r);
	main_service = flags & ZC_MAIN ? 0 : -1;
	if (version != ZINIT_VERSION || r.bad || nservices < 0 || nservices > MAX_SERVICES || (main_service == 0 && nservices == 0)) {
		errno = EINVAL;
		die("configuration");
	}
	for (int i = 0; i < nservices; i++)
		get_program(&r, &services[i].p);
	if (r.bad) {
		errno = EINVAL;
		die("configuration");
	}
	for (int i = 0; i < MAX_CONNS; i++)
		conns[i].fd = conns[i].report = conns[i].master = -1;
	is_init = getpid() == 1;
	devnull = open("/dev/null", O_RDWR | O_CLOEXEC);
	fcntl(listener, F_SETFD, FD_CLOEXEC);
	fcntl(listener, F_SETFL, O_NONBLOCK);
	lock_down(caps, filter, filter_len, flags);
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);

	if (flags & ZC_OWN) {
		// The image's own init becomes this process, the server a child of it.
		pid_t child = fork();
		if (child < 0)
			die("fork");
		if (child > 0) {
			struct program *p = &services[0].p;
			close(listener);
			if (chdir(*p->dir ? p->dir : "/") < 0)
				die(p->dir);
			exec_path(p);
			die(p->argv[0]);
		}
		setsid();
		is_init = nservices = 0;
		main_service = -1;
	}
	prctl(PR_SET_NAME, "zinit");
	sigset_t all;
	sigfillset(&all);
	// A fault must still end us rather than spin.
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGILL);
	sigdelset(&all, SIGFPE);
	sigprocmask(SIG_SETMASK, &all, NULL);
	if ((signals = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK)) < 0 || devnull < 0)
		die("set up");
	ioctl(0, TIOCNOTTY); // the console is for a program to take
	serve();
}

__attribute__((constructor)) static void zinit(void)
{
	if (getenv(ZINIT_ENV))
		run();
	if (getenv(ZINIT_PAUSE_ENV)) // only there to hold a user namespace until it is opened
		for (;;)
			pause();
}
