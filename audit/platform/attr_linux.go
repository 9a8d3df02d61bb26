package platform

import "syscall"

// dieWithParent lets no server outlive a test or a bench that was killed.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
