// What the host asks for: programs, files to mount over, the console. Part of zinit_linux.c.
#ifndef MOBULA_ZINIT_REQUESTS_H
#define MOBULA_ZINIT_REQUESTS_H

#include "services.h"


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
	c->alone = (p.flags & ZP_ALONE) != 0;
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
	tell_end(c);
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
		if (c->kind == RUNNING && !c->ended && c->alone && m.a == SIGKILL)
			kill(-1, SIGKILL); // its end is everybody's, and among many this process may not get to run again soon
		else if (c->kind == RUNNING && !c->ended && kill(-c->pid, m.a) < 0)
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
		reply(c->fd, fd < 0 ? ZM_FAILED : ZM_OK, fd < 0 ? errno : 0, 0, -1);
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
	console_put(data, n);
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

#endif
