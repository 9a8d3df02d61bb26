package redis

import (
	"errors"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// ClientConfig says where Redis is and how patiently it is used. Start from DefaultClient.
type ClientConfig struct {
	Addresses []string // one: a server; several with MasterName: sentinels; several without, or Cluster: a cluster's nodes
	Cluster   bool     // a cluster of which one node is named
	Master    string   // the name the sentinels know
	Username  string
	Password  string // a secret
	DB        int    // not with a cluster

	DialTimeout time.Duration
	IOTimeout   time.Duration // of one read or write, and of waiting for a connection
	PoolSize    int           // connections to each server; 0: ten for each processor
}

// DefaultClient lacks only the addresses. Redis is an index that delivery can do without: it is given up on quickly.
func DefaultClient() ClientConfig {
	return ClientConfig{DialTimeout: 500 * time.Millisecond, IOTimeout: 500 * time.Millisecond}
}

// NewClient makes a client; it connects when it is used. Deadlines of contexts end its calls. The caller closes it.
func NewClient(cfg ClientConfig) (goredis.UniversalClient, error) {
	if len(cfg.Addresses) == 0 {
		return nil, errors.New("redis: no address is configured")
	}
	return goredis.NewUniversalClient(&goredis.UniversalOptions{
		Addrs:                 cfg.Addresses,
		IsClusterMode:         cfg.Cluster,
		MasterName:            cfg.Master,
		Username:              cfg.Username,
		Password:              cfg.Password,
		DB:                    cfg.DB,
		ClientName:            "gatepost",
		ContextTimeoutEnabled: true,
		DialTimeout:           cfg.DialTimeout,
		DialerRetries:         1,
		ReadTimeout:           cfg.IOTimeout,
		WriteTimeout:          cfg.IOTimeout,
		PoolTimeout:           cfg.IOTimeout,
		PoolSize:              cfg.PoolSize,
		MaxRetries:            1,
		MinRetryBackoff:       5 * time.Millisecond,
		MaxRetryBackoff:       20 * time.Millisecond,
		MaxRedirects:          3,
	}), nil
}
