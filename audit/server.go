package audit

// Server is a server process on this machine, whose CPU and memory can be measured.
type Server struct {
	Name string
	PID  int
}
