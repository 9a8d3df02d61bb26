package redis

import (
	"errors"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// ClientConfig says where Redis is and how patiently it is used. Start from DefaultClient.
type ClientConfig struct {
	Addresses []string // host:port. One: a server; several: sentinels when a master is named, else nodes of a cluster
	Cluster   bool     // the only address is a node of a cluster, which names the others
	Master    string   // the name that the sentinels know; empty: the addresses are no sentinels
	Username  string   // empty: the default user
	Password  string   // a secret; empty: none
	DB        int      // number of the database; a cluster has 0 only

	DialTimeout time.Duration // of making one connection; 0: 5s
	IOTimeout   time.Duration // of one read or write, and of waiting for a free connection; 0: 3s, and a second more for waiting
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
