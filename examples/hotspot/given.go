package main

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // the image holds this program and nothing else
)

const attributePrefix = "TENANTRY_ATTRIBUTE_"

// environment holds the process's variables by name.
type environment map[string]string

func parseEnvironment(variables []string) environment {
	env := make(environment, len(variables))
	for _, v := range variables {
		name, value, _ := strings.Cut(v, "=")
		env[name] = value
	}
	return env
}

// given is what the operator says of a run: for whom it is, which one it is, and when it was due.
type given struct {
	tenantID   string
	tenantUID  string
	namespace  string
	jobName    string
	jobUID     string // the same for every attempt, so it serves as idempotency key
	template   string
	queue      string
	fanOut     string
	attributes map[string]string // by the end of the variable's name: PLAN

	// due is the instant the run is about, on the tenant's clock: a run that comes late still does its own day's work.
	due time.Time
}

// readGiven refuses to go on without a tenant: a job has one or does not run.
func readGiven(env environment, now time.Time) (given, error) {
	if env["TENANT_ID"] == "" {
		return given{}, fmt.Errorf("%w: TENANT_ID is not set, and without a tenant there is nothing to do", errRefused)
	}
	g := given{
		tenantID:   env["TENANT_ID"],
		tenantUID:  env["TENANTRY_TENANT_UID"],
		namespace:  env["TENANTRY_NAMESPACE"],
		jobName:    env["TENANTRY_JOB_NAME"],
		jobUID:     env["TENANTRY_JOB_UID"],
		template:   env["TENANTRY_TEMPLATE"],
		queue:      env["TENANTRY_QUEUE"],
		fanOut:     env["TENANTRY_FAN_OUT"],
		attributes: map[string]string{},
		due:        now,
	}
	for name, value := range env {
		if key, ok := strings.CutPrefix(name, attributePrefix); ok {
			g.attributes[key] = value
		}
	}
	if tick := env["TENANTRY_SCHEDULED_TIME"]; tick != "" {
		due, err := time.Parse(time.RFC3339, tick)
		if err != nil {
			return given{}, fmt.Errorf("%w: TENANTRY_SCHEDULED_TIME is no RFC 3339 time: %q", errRefused, tick)
		}
		g.due = due
	}
	zone, err := time.LoadLocation(cmp.Or(env["TENANTRY_TIME_ZONE"], "Etc/UTC"))
	if err != nil {
		return given{}, fmt.Errorf("%w: reading TENANTRY_TIME_ZONE: %w", errRefused, err)
	}
	g.due = g.due.In(zone)
	return g, nil
}

// day is the date so many days from the one the run is about, where the tenant is.
func (g given) day(offset int) time.Time { return g.due.AddDate(0, 0, offset) }

// dayText is the same for people.
func (g given) dayText(offset int) string {
	return fmt.Sprintf("%s in %s", g.day(offset).Format(time.DateOnly), g.due.Location())
}

// logged lists for the log what the run was given; the tenant's name is on every line already.
func (g given) logged() []any {
	var attributes []any
	for _, key := range slices.Sorted(maps.Keys(g.attributes)) {
		attributes = append(attributes, slog.String(key, g.attributes[key]))
	}
	return []any{
		slog.String("tenantID", g.tenantID),
		slog.String("tenantUID", g.tenantUID),
		slog.String("namespace", g.namespace),
		slog.String("jobName", g.jobName),
		slog.String("jobUID", g.jobUID),
		slog.String("template", g.template),
		slog.String("queue", g.queue),
		slog.String("fanOut", g.fanOut),
		slog.String("timeZone", g.due.Location().String()),
		slog.Group("attribute", attributes...),
	}
}
