// Carries out a plan: what a new zone's process 1 does before it is one, in its own namespaces and as the zone's root, with no
// rights on the host but to look. What to do is the host's to decide (plan_linux.go); here is only how. Part of zinit_linux.c.
#ifndef MOBULA_ZINIT_SETUP_H
#define MOBULA_ZINIT_SETUP_H

#include "requests.h"

static int host = -1; // the host's end waits here until the zone stands
static int root = -1; // the root to be

// step is one of a plan.
struct step {
	uint32_t kind, file;
	uint64_t flags;
	char *a, *b, *c;
};

static void die(const char *what)
{
	int e = errno;
	if (host >= 0) {
		struct zreport r = {.error = e ? e : EINVAL};
		snprintf(r.what, sizeof r.what, "%.250s", what);
		send_all(host, &r, sizeof r);
	} else
		dprintf(2, "init: %s: %s\n", what, strerror(e));
	_exit(125);
}

static void die_at(const char *what, const char *path)
{
	char text[250];
	int e = errno;
	snprintf(text, sizeof text, "%s %.200s", what, path);
	errno = e;
	die(text);
}

// find opens what a path names below the root to be. Links are followed, and lead nowhere else.
static int find(const char *path, uint64_t flags)
{
	struct open_how h = {.flags = O_PATH | O_CLOEXEC | flags, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
	return syscall(SYS_openat2, root, *path ? path : "/", &h, sizeof h);
}

// place is find for something to mount over, which is made if it is missing.
static int place(const char *path, int file)
{
	int fd = find(path, file ? 0 : O_DIRECTORY);
	if (fd >= 0 || errno != ENOENT)
		return fd;
	char part[PATH_MAX];
	size_t n = strlen(path);
	if (n >= sizeof part) {
		errno = ENAMETOOLONG;
		return -1;
	}
	int dir = find("/", O_DIRECTORY);
	for (size_t at = 0; dir >= 0 && at < n;) {
		at += strspn(path + at, "/");
		size_t len = strcspn(path + at, "/");
		if (len == 0)
			break;
		int last = at + len + strspn(path + at + len, "/") == n;
		memcpy(part, path + at, len);
		part[len] = 0;
		at += len;
		if (last && file) {
			int made = openat(dir, part, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
			if (made >= 0)
				close(made);
		} else
			mkdirat(dir, part, 0755); // one that is there is as good, and what else is wrong comes out below
		int e = errno;
		close(dir);
		memcpy(part, path, at);
		part[at] = 0;
		if ((dir = find(part, last && file ? 0 : O_DIRECTORY)) < 0 && errno == ENOENT && e != EEXIST)
			errno = e;
	}
	return dir;
}

static int set_attributes(int fd, uint64_t attributes)
{
	struct mount_attr a = {.attr_set = attributes, .propagation = MS_PRIVATE};
	return syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &a, sizeof a);
}

static int attach(int tree, int at)
{
	return syscall(SYS_move_mount, tree, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

static void do_mount(struct step *s)
{
	char at[64];
	int fd = place(s->b, 0);
	if (fd < 0)
		die_at("mount at", s->b);
	snprintf(at, sizeof at, "/proc/self/fd/%d", fd);
	if (mount(s->a, at, s->a, s->flags, *s->c ? s->c : NULL) < 0)
		die_at("mount at", s->b);
	close(fd);
}

// do_bind mounts a tree that the host has prepared, or a copy of what the path names there.
static void do_bind(struct step *s, int tree)
{
	if (tree < 0) {
		if ((tree = syscall(SYS_open_tree, AT_FDCWD, s->a, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE)) < 0) {
			if (errno == ENOENT && (s->flags & ZO_OPTIONAL))
				return;
			die_at("clone mount", s->a);
		}
		if (set_attributes(tree, strtoull(s->c, NULL, 10)) < 0)
			die_at("restrict mount", s->a);
	}
	int fd = place(s->b, (s->flags & ZO_IS_FILE) != 0);
	if (fd < 0 || attach(tree, fd) < 0)
		die_at("mount at", s->b);
	close(fd);
	close(tree);
}

static void do_root(struct step *s, int tree)
{
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		die("make mounts private");
	if (tree < 0 && (tree = syscall(SYS_open_tree, AT_FDCWD, s->a, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE)) < 0)
		die_at("clone mount", s->a);
	if (set_attributes(tree, MOUNT_ATTR_NODEV) < 0)
		die("restrict the root");
	// Over the host's: it is about to go.
	if (syscall(SYS_move_mount, tree, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		die("mount the root");
	root = tree;
}

static void do_pivot(void)
{
	if (fchdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		die("change the root");
	close(root);
	root = -1;
}

static void do_link(struct step *s)
{
	char parent[PATH_MAX];
	char *name = strrchr(s->b, '/');
	int dir = -1;
	if (name && (size_t)(name - s->b) < sizeof parent) {
		memcpy(parent, s->b, name - s->b);
		parent[name - s->b] = 0;
		dir = place(parent, 0);
	}
	if (dir < 0 || (symlinkat(s->a, dir, name + 1) < 0 && errno != EEXIST))
		die_at("link", s->b);
	close(dir);
}

static void do_write(struct step *s)
{
	int fd = open(s->b, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || write(fd, s->c, strlen(s->c)) < 0)
		die_at("write", s->b);
	close(fd);
}

static void do_mask(struct step *s)
{
	struct stat st;
	if (lstat(s->b, &st) < 0)
		return;
	if (S_ISDIR(st.st_mode)) {
		if (mount("tmpfs", s->b, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=4k") < 0)
			die_at("mask", s->b);
		return;
	}
	int tree = syscall(SYS_open_tree, AT_FDCWD, "/dev/null", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0 || syscall(SYS_move_mount, tree, "", AT_FDCWD, s->b, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		die_at("mask", s->b);
	close(tree);
}

// do_protect changes a mount, or covers what is none with one of itself.
static void do_protect(struct step *s)
{
	struct mount_attr a = {.attr_set = MOUNT_ATTR_RDONLY};
	if (s->flags & ZO_IS_MOUNT) {
		if (syscall(SYS_mount_setattr, AT_FDCWD, s->b, 0, &a, sizeof a) < 0)
			die_at("protect", s->b);
		return;
	}
	int tree = syscall(SYS_open_tree, AT_FDCWD, s->b, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
	if (tree < 0 && errno == ENOENT)
		return;
	if (tree < 0 || set_attributes(tree, MOUNT_ATTR_RDONLY) < 0 ||
	    syscall(SYS_move_mount, tree, "", AT_FDCWD, s->b, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		die_at("protect", s->b);
	close(tree);
}

static void do_loopback(void)
{
	struct ifreq r = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &r) < 0)
		die("bring up loopback");
	close(fd);
}

// do_console makes the zone's console: its terminal is /dev/console and the three streams, and controls this process in case the
// image's own init takes its place. The other end stays with us.
static void do_console(void)
{
	int slave = -1;
	if ((console = new_terminal(24, 80, &slave)) < 0)
		die("make the console");
	int at = open("/dev/console", O_RDONLY | O_CREAT | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK | O_CLOEXEC, 0600);
	int tree = syscall(SYS_open_tree, slave, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
	if (at < 0 || tree < 0 || attach(tree, at) < 0)
		die("mount the console");
	close(at);
	close(tree);
	if (ioctl(slave, TIOCSCTTY, 0) < 0 || dup2(slave, 0) < 0 || dup2(slave, 1) < 0 || dup2(slave, 2) < 0)
		die("take the console");
	if (slave > 2)
		close(slave);
	fcntl(console, F_SETFL, O_NONBLOCK);
}

static void take_step(struct step *s, int *files, int nfiles)
{
	int file = -1;
	if (s->kind == ZO_FILE || (s->kind == ZO_ROOT && !*s->a)) {
		if (s->file >= (uint32_t)nfiles) {
			errno = EINVAL;
			die("plan");
		}
		file = files[s->file];
	}
	switch (s->kind) {
	case ZO_ROOT:
		do_root(s, file);
		break;
	case ZO_FILE:
	case ZO_BIND:
		do_bind(s, file);
		break;
	case ZO_MOUNT:
		do_mount(s);
		break;
	case ZO_LINK:
		do_link(s);
		break;
	case ZO_PIVOT:
		do_pivot();
		break;
	case ZO_WRITE:
		do_write(s);
		break;
	case ZO_MASK:
		do_mask(s);
		break;
	case ZO_PROTECT:
		do_protect(s);
		break;
	case ZO_HOSTNAME:
		if (sethostname(s->a, strlen(s->a)) < 0 || setdomainname(s->b, strlen(s->b)) < 0)
			die("set the host name");
		break;
	case ZO_LOOPBACK:
		do_loopback();
		break;
	case ZO_CONSOLE:
		do_console();
		break;
	default:
		errno = EINVAL;
		die("plan");
	}
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

static void follow_plan(int fd, int *files, int nfiles)
{
	size_t len;
	char *data = read_all(fd, &len);
	struct reader r = {data, data + len, 0};
	for (uint32_t n = get32(&r); n > 0; n--) {
		struct step s;
		s.kind = get32(&r);
		s.file = get32(&r);
		s.flags = get64(&r);
		s.a = get_text(&r);
		s.b = get_text(&r);
		s.c = get_text(&r);
		if (r.bad) {
			errno = EINVAL;
			die("plan");
		}
		take_step(&s, files, nfiles);
	}
	free(data);
}

#endif
