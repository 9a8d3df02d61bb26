// Package hook asks a domain's business whether one user may write to another, over HTTP:
//
//	POST {"from":{"domain":"shop","uid":"ann"},"to":{"domain":"shop","uid":"bob"},"type":"text"}
//	200  {"allow":false,"reason":"bob has blocked ann"}
//
// Everything else is no answer, and the domain's configuration says what holds then.
package hook
