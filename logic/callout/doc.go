// Package callout asks an HTTP endpoint of a domain's business a question, as JSON by POST, and gives up in time: each question
// has a time-out, answers are bounded in size and questions in number, and an endpoint that fails again and again is left alone for
// a while by a breaker, so that who depends on it hears at once that there is no answer.
package callout
