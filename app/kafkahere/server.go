package kafkahere

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Config of a Server.
type Config struct {
	// Dir holds the log; it is made when it is missing. One process at a time may use it: the caller sees to that. Required.
	Dir string
	// Listen is host:port; port 0 takes a free one. Required.
	Listen string
	// Advertise is the host, or host:port, that clients are told to connect to; without a port it is that of Listen.
	// Empty: Listen, which must then name the one host that clients reach.
	Advertise string
	// Retention is how long records are kept; 0: for ever. The last record of each partition stays.
	Retention time.Duration
	// TrimEvery is how often records are trimmed; 0: a minute.
	TrimEvery time.Duration
}

// Validate returns all faults, joined.
func (c Config) Validate() error {
	var faults []error
	if c.Dir == "" {
		faults = append(faults, errors.New("dir: a directory is needed"))
	}
	if err := ValidAddresses(c.Listen, c.Advertise); err != nil {
		faults = append(faults, err)
	}
	if c.Retention < 0 {
		faults = append(faults, fmt.Errorf("retention: %v is negative", c.Retention))
	}
	if c.TrimEvery < 0 {
		faults = append(faults, fmt.Errorf("trim_every: %v is negative", c.TrimEvery))
	}
	return errors.Join(faults...)
}

// ValidAddresses checks Config.Listen and Config.Advertise, and returns all faults joined. It calls them as the settings are called.
func ValidAddresses(listen, advertise string) error {
	var faults []error
	host, _, err := splitAddress(listen)
	switch {
	case err != nil:
		faults = append(faults, fmt.Errorf("kafka.listen: %w", err))
	case advertise == "" && unspecified(host):
		faults = append(faults, fmt.Errorf("kafka.listen: %q is every address of this machine: say by kafka.advertise which one clients are to use", listen))
	}
	if advertise != "" {
		if host, _, err := splitAdvertised(advertise); err != nil {
			faults = append(faults, fmt.Errorf("kafka.advertise: %w", err))
		} else if unspecified(host) {
			faults = append(faults, fmt.Errorf("kafka.advertise: %q is no address that a client can connect to", advertise))
		}
	}
	return errors.Join(faults...)
}

// unspecified reports whether host stands for all addresses of a machine.
func unspecified(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}

// splitAdvertised splits host or host:port; port is 0 when there is none.
func splitAdvertised(text string) (host string, port int, err error) {
	if bare := strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"); net.ParseIP(bare) != nil || !strings.Contains(text, ":") {
		return bare, 0, nil
	}
	if host, port, err = splitAddress(text); err == nil && port == 0 {
		err = fmt.Errorf("%q: port 0 is no port that a client can connect to", text)
	}
	return host, port, err
}

func splitAddress(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("%q is not host:port", address)
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("%q: the port is not a number below 65536", address)
	}
	return host, int(n), nil
}

// Server is a running broker. Close ends it.
type Server struct {
	cfg     Config
	logger  *slog.Logger
	cluster *kfake.Cluster
	address string // where it listens, as this process reaches it
	told    string // what clients are told

	ctx     context.Context
	cancel  context.CancelFunc
	trimmer sync.WaitGroup
	once    sync.Once
}

// defaultTrim is Config.TrimEvery when it is zero.
const defaultTrim = time.Minute

// Start loads what is in cfg.Dir and listens.
func Start(cfg Config, logger *slog.Logger) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	if cfg.TrimEvery == 0 {
		cfg.TrimEvery = defaultTrim
	}
	inner, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("kafka: %s is taken by another process: stop it, or choose another address by kafka.listen: %w", cfg.Listen, err)
		}
		return nil, fmt.Errorf("kafka: %w", err)
	}
	s := &Server{cfg: cfg, logger: logger}
	bound := inner.Addr().(*net.TCPAddr)
	s.address = net.JoinHostPort(dialHost(bound.IP), strconv.Itoa(bound.Port))
	host, port, _ := splitAdvertised(cfg.Advertise)
	if cfg.Advertise == "" {
		host, _, _ = splitAddress(cfg.Listen)
	}
	if port == 0 {
		port = bound.Port
	}
	s.told = net.JoinHostPort(host, strconv.Itoa(port))
	one, forever, no := "1", "-1", "false"
	cluster, err := kfake.NewCluster(
		kfake.NumBrokers(1), kfake.ClusterID("gatepost-standalone"),
		kfake.ListenFn(func(string, string) (net.Listener, error) {
			return &listener{Listener: inner, advertised: address(s.told)}, nil
		}),
		kfake.DataDir(cfg.Dir), kfake.SyncWrites(),
		kfake.BrokerConfigs(map[string]string{
			"log.retention.ms": forever, "log.retention.bytes": forever,
			"default.replication.factor": one, "min.insync.replicas": one, "auto.create.topics.enable": no,
		}),
		kfake.WithLogger(bridge{logger}),
	)
	if err != nil {
		_ = inner.Close()
		return nil, fmt.Errorf("kafka: open the log in %s: %w", cfg.Dir, err)
	}
	for _, key := range []int16{int16(kmsg.CreateTopics), int16(kmsg.AlterConfigs), int16(kmsg.IncrementalAlterConfigs)} {
		cluster.ControlKey(key, withoutRetention)
	}
	cluster.ControlKey(int16(kmsg.DeleteRecords), keepLast(cluster))
	s.cluster = cluster
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if cfg.Retention > 0 {
		s.trimmer.Go(s.trimForever)
	}
	return s, nil
}

// dialHost is how this process reaches a listener on ip.
func dialHost(ip net.IP) string {
	if ip.IsUnspecified() {
		return "127.0.0.1"
	}
	return ip.String()
}

// Addr is the host:port that clients are told.
func (s *Server) Addr() string { return s.told }

// LocalAddr is the host:port by which this machine reaches the broker, whatever clients are told.
func (s *Server) LocalAddr() string { return s.address }

// Close stops listening and writes what is left. Later calls do nothing.
func (s *Server) Close() {
	s.once.Do(func() {
		s.cancel()
		s.trimmer.Wait()
		s.cluster.Close()
	})
}

// withoutRetention takes out of a request what would start the broker's own retention or compaction, and lets it pass.
func withoutRetention(request kmsg.Request) (kmsg.Response, error, bool) { //nolint:staticcheck // the order is kfake's
	switch r := request.(type) {
	case *kmsg.CreateTopicsRequest:
		for i := range r.Topics {
			t := &r.Topics[i]
			t.Configs = slices.DeleteFunc(t.Configs, func(c kmsg.CreateTopicsRequestTopicConfig) bool { return removes(c.Name) })
		}
	case *kmsg.AlterConfigsRequest:
		for i := range r.Resources {
			res := &r.Resources[i]
			res.Configs = slices.DeleteFunc(res.Configs, func(c kmsg.AlterConfigsRequestResourceConfig) bool { return removes(c.Name) })
		}
	case *kmsg.IncrementalAlterConfigsRequest:
		for i := range r.Resources {
			res := &r.Resources[i]
			res.Configs = slices.DeleteFunc(res.Configs, func(c kmsg.IncrementalAlterConfigsRequestResourceConfig) bool { return removes(c.Name) })
		}
	}
	return nil, nil, false
}

// keepLast lets requests to delete records pass, but never for the last one of a partition: it holds the end offset over a restart,
// and a partition that began at 0 again would hide what comes next from every group that has read further.
func keepLast(cluster *kfake.Cluster) func(kmsg.Request) (kmsg.Response, error, bool) { //nolint:staticcheck // the order is kfake's
	return func(request kmsg.Request) (kmsg.Response, error, bool) {
		r, ok := request.(*kmsg.DeleteRecordsRequest)
		if !ok {
			return nil, nil, false
		}
		for _, t := range r.Topics {
			for _, info := range cluster.PartitionInfos(t.Topic) {
				for i := range t.Partitions {
					p := &t.Partitions[i]
					if p.Partition == info.Partition && (p.Offset == -1 || p.Offset == info.HighWatermark) && info.HighWatermark > info.LogStartOffset {
						p.Offset = info.HighWatermark - 1
					}
				}
			}
		}
		return nil, nil, false
	}
}

// removes reports whether the setting makes the broker remove records.
func removes(setting string) bool {
	return setting == "cleanup.policy" || strings.HasPrefix(setting, "retention.") || strings.HasPrefix(setting, "log.retention.") || setting == "log.cleanup.policy"
}

// listener tells clients the advertised address instead of its own.
type listener struct {
	net.Listener
	advertised address
}

func (l *listener) Addr() net.Addr { return l.advertised }

type address string

func (a address) Network() string { return "tcp" }
func (a address) String() string  { return string(a) }

// bridge writes the broker's warnings and errors to our log.
type bridge struct{ logger *slog.Logger }

func (b bridge) Logf(level kfake.LogLevel, format string, args ...any) {
	switch level {
	case kfake.LogLevelError:
		b.logger.Error("kafka broker", "text", fmt.Sprintf(format, args...))
	case kfake.LogLevelWarn:
		b.logger.Warn("kafka broker", "text", fmt.Sprintf(format, args...))
	}
}
