//go:build !linux

package platform

import "syscall"

// dieWithParent does nothing where the system has no such signal.
func dieWithParent() *syscall.SysProcAttr { return nil }
