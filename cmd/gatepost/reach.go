package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/gatepost/gatepost/app"
	"github.com/gatepost/gatepost/audit"
	"github.com/gatepost/gatepost/audit/platform"
)

// runtime is what a platform in --data-dir tells of itself.
func (o *openServers) runtime(flag string) (app.Runtime, error) {
	s := o.named
	if s.where != serversRunning {
		return app.Runtime{}, usageError{fmt.Errorf("%s is needed for --servers %s", flag, s.where)}
	}
	return app.ReadRuntime(s.to.DataDir)
}

// topic is where the uplinks of the platform end; name is that of a platform that was not started here.
func (o *openServers) topic(name string) (audit.KafkaTopic, error) {
	t := audit.KafkaTopic{Brokers: o.named.kafka, Name: name}
	switch {
	case o.local != nil:
		t = audit.KafkaTopic{Brokers: o.local.Brokers(), Name: o.local.Topic()}
	case len(t.Brokers) == 0:
		rt, err := o.runtime("--kafka")
		if err != nil {
			return t, err
		}
		t.Brokers = rt.Kafka
	}
	if len(t.Brokers) == 0 {
		return t, usageError{errors.New("this platform has no Kafka: name one by --kafka or --backing")}
	}
	return t, nil
}

// appServer is an app-server of the platform; address and keyFile are of one that was not started here. The caller closes it.
func (o *openServers) appServer(ctx context.Context, address, keyFile string) (*audit.AppServer, error) {
	if o.local != nil {
		key, err := o.local.AppKey(ctx)
		if err != nil {
			return nil, err
		}
		return audit.NewAppServer(o.local.Apps(), key, platform.Domain)
	}
	s := o.named
	key, err := findAppKey(s.to.DataDir, s.domain, keyFile)
	if err != nil {
		return nil, err
	}
	if address == "" {
		rt, err := o.runtime("--app")
		if err != nil {
			return nil, err
		}
		if address = rt.App; address == "" {
			return nil, fmt.Errorf("the %s in %s has no port for app-servers: name one by --app", rt.Role, s.to.DataDir)
		}
	}
	return audit.NewAppServer(strings.Split(address, ","), key, s.domain)
}
