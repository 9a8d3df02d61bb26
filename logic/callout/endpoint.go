package callout

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// maxAnswerBytes bounds the body of an answer.
const maxAnswerBytes = 16 << 10

// DefaultTimeout of a question.
const DefaultTimeout = time.Second

// Config of an endpoint.
type Config struct {
	URL         string        // http or https
	Timeout     time.Duration // of one question, from its turn on; 0: DefaultTimeout
	Concurrency int           // questions at once; 0: as many as the caller likes
}

// Endpoint is one URL that is asked questions. It is safe for concurrent use.
type Endpoint struct {
	url     string
	timeout time.Duration
	turns   chan struct{} // nil: no bound
	client  *http.Client
	breaker Breaker
}

// idleConnections are kept to an endpoint whose questions are not bounded.
const idleConnections = 64

// New checks cfg. Nobody is asked yet.
func New(cfg Config) (*Endpoint, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("endpoint: %w", err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("endpoint %s: must be an http or https URL with a host", u.Redacted())
	}
	if cfg.Timeout < 0 || cfg.Concurrency < 0 {
		return nil, fmt.Errorf("endpoint %s: timeout (%v) and concurrency (%d) must not be negative", u.Redacted(), cfg.Timeout, cfg.Concurrency)
	}
	e := &Endpoint{url: cfg.URL, timeout: cfg.Timeout}
	if e.timeout == 0 {
		e.timeout = DefaultTimeout
	}
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		MaxIdleConnsPerHost: idleConnections,
		IdleConnTimeout:     time.Minute,
		ForceAttemptHTTP2:   true,
	}
	if cfg.Concurrency > 0 {
		e.turns = make(chan struct{}, cfg.Concurrency)
		transport.MaxIdleConnsPerHost = cfg.Concurrency
	}
	e.client = &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // is no answer
	}
	return e, nil
}

// Close drops idle connections. Questions may still be asked.
func (e *Endpoint) Close() { e.client.CloseIdleConnections() }

// Ask posts question as JSON and hands the answer to read, which says by an error that it is none. An error of Ask: there was no
// answer, and another try may have one. *OpenError: nobody was asked. A turn is waited for until ctx ends.
func (e *Endpoint) Ask(ctx context.Context, question any, read func(status int, body []byte) error) error {
	if err := e.breaker.Check(); err != nil {
		return err // no turn is waited for
	}
	body, err := json.Marshal(question)
	if err != nil {
		return fmt.Errorf("encode the question: %w", err)
	}
	if e.turns != nil {
		select {
		case e.turns <- struct{}{}:
			defer func() { <-e.turns }()
		case <-ctx.Done():
			return fmt.Errorf("wait for a turn: %w", ctx.Err())
		}
	}
	leave, err := e.breaker.Enter()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	result := Failed // also when read panics
	defer func() { leave(result) }()
	err = e.post(ctx, body, read)
	switch {
	case err == nil:
		result = Succeeded
	case errors.Is(err, context.Canceled):
		result = Unknown
	}
	return err
}

func (e *Endpoint) post(ctx context.Context, body []byte, read func(int, []byte) error) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	res, err := e.client.Do(req)
	if err != nil {
		return err // names the URL, without its password
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswerBytes+1))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if len(answer) > maxAnswerBytes {
		return fmt.Errorf("the answer has more than %d bytes", maxAnswerBytes)
	}
	return read(res.StatusCode, answer)
}
