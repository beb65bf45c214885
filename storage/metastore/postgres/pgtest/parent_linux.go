package pgtest

import "syscall"

// diesWithParent has the kernel stop the server should the test be killed.
func diesWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGQUIT }
