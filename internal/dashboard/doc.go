// Package dashboard shows a running fleet to its operators: surveys with their
// progress and verdicts as they come, probes with what they are ready for, and
// the evidence of every target whose chunk is finished. It looks like the
// report (internal/report/html), whose scripts and styles it serves.
//
// It knows nothing that an operator could not ask for: everything of surveys
// and probes comes from ControlService, and all evidence from the dataset. It
// changes nothing: there is no other method than GET and HEAD, so a page
// elsewhere that makes a browser ask for something gains nothing by it. Who may
// look has to be decided before it, and the context of a request ends when that
// has changed, see identity.Guard.Web.
//
// Every address in a page is relative: the handler may be mounted anywhere, with
// http.StripPrefix, as long as the path it is reached at ends in a slash.
//
// What may not enter: a second way to the store, a session of our own, anything
// that changes a survey or a probe.
package dashboard
