//go:build linux

// The in-zone init: process 1 of a zone, or a server beside the zone's own process 1. See doc.go for what it does and wire.h
// for what it speaks.
//
// It is C and not Go because it runs before the Go runtime would: a constructor takes over when the program is
// started with ZINIT_ENV set, so a zone's init costs some hundred kilobytes and a fork of it is cheap, though it is
// the same file as the host program. It allocates only while a request is read, and trusts the host alone: nothing
// that a program in the zone can write to is parsed here.

#define _GNU_SOURCE

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
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

#include "starter.h"

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
	tell_host();

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
	if (getenv(ZINIT_START_ENV))
		serve_orders();
}
