// Programs: how they are told, and how they are started. Part of zinit_linux.c; all of it is one translation unit, so that none of its names
// meet those of other packages.
#ifndef MOBULA_ZINIT_PROGRAM_H
#define MOBULA_ZINIT_PROGRAM_H

#include "wire.h"


static int single; // one id only, so that groups cannot be given up

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
	if (p->flags & ZP_CORES) {
		struct rlimit l;
		if (getrlimit(RLIMIT_CORE, &l) == 0) {
			l.rlim_cur = l.rlim_max;
			setrlimit(RLIMIT_CORE, &l);
		}
	}
	// Without the privilege for it there is nothing to give up if there are no groups.
	if (setgroups(p->ngroups, p->groups) < 0 && (p->ngroups > 0 || (!single && getgroups(0, NULL) != 0)))
		return;
	if (setresgid(p->gid, p->gid, p->gid) < 0 || setresuid(p->uid, p->uid, p->uid) < 0)
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

#endif
