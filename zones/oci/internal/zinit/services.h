// The programs of the zone: start, end, and the end of the zone with them. Part of zinit_linux.c.
#ifndef MOBULA_ZINIT_SERVICES_H
#define MOBULA_ZINIT_SERVICES_H

#include "server.h"


static void say(const char *what, const char *name)
{
	char line[512];
	int n = snprintf(line, sizeof line, "init: %.100s: %.200s: %s\r\n", name, what, strerror(errno));
	console_put(line, n < (int)sizeof line ? n : (int)sizeof line - 1);
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

// tell_end tells the end of a program that runs alone once nobody else is left. What it left becomes our child as its parents go, so
// having no child is being alone; a fork under way sees the signal and fails, so nobody escapes. A server beside a zone's own process 1 adopts
// nobody and cannot wait for that.
static void tell_end(struct conn *c)
{
	siginfo_t any;
	if (c->kind != RUNNING || !c->ended)
		return;
	if (c->alone && is_init && !(waitid(P_ALL, 0, &any, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD))
		return;
	reply(c->fd, ZM_EXITED, c->status, 0, -1);
	drop(c);
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
			if (c->alone)
				kill(-1, SIGKILL);
			else
				tell_end(c);
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
	for (int i = 0; i < MAX_CONNS; i++)
		if (conns[i].alone)
			tell_end(&conns[i]);
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

#endif
