package kube

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/tenantry/tenantry/internal/conditions"
)

func TestRefusalOf(t *testing.T) {
	t.Parallel()
	jobs := schema.GroupResource{Group: "batch", Resource: "jobs"}
	forbidden := func(why string) error { return apierrors.NewForbidden(jobs, "report", errors.New(why)) }
	terminating := apierrors.NewForbidden(jobs, "report", errors.New("unable to create new content"))
	terminating.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	for name, tc := range map[string]struct {
		err    error
		want   Refusal
		object bool
	}{
		"none":                           {nil, NotRefused, false},
		"no answer":                      {errors.New("connection refused"), RefusalUnknown, false},
		"a server in trouble":            {apierrors.NewInternalError(errors.New("etcd")), RefusalUnknown, false},
		"a webhook that does not answer": {apierrors.NewInternalError(errors.New("failed calling webhook")), RefusalUnknown, false},
		"a timeout":                      {apierrors.NewTimeoutError("slow", 1), RefusalUnknown, false},
		"invalid":                        {apierrors.NewInvalid(schema.GroupKind{Kind: "Job"}, "report", nil), RefusalInvalid, true},
		"a bad request":                  {apierrors.NewBadRequest("unknown field"), RefusalInvalid, true},
		"a full quota":                   {forbidden("exceeded quota: tenant-quota, requested: pods=1, used: pods=1, limited: pods=1"), RefusalQuota, true},
		"a quota that was just changed":  {forbidden("status unknown for quota: tenant-quota, resources: count/tenantjobs.tenantry.dev"), RefusalQuota, true},
		"a terminating namespace":        {terminating, RefusalTerminating, false},
		"a terminating namespace, as a message": {
			forbidden("unable to create new content in namespace tenant-acme because it is being terminated"), RefusalTerminating, false,
		},
		"no right to create": {
			forbidden(`User "system:serviceaccount:tenantry-system:tenantry" cannot create resource "jobs" in API group "batch"`), RefusalOperator, false,
		},
		"no right to update": {
			forbidden(`User "system:serviceaccount:tenantry-system:tenantry" cannot update resource "resourcequotas" in API group ""`), RefusalOperator, false,
		},
		"a policy with similar words": {forbidden("ValidatingAdmissionPolicy 'x' denied request: pods cannot use resource nvidia.com/gpu"), RefusalForbidden, true},
		"no service account":          {forbidden("error looking up service account tenantry-system/default: not found"), RefusalOperator, false},
		"an admission policy":         {forbidden("ValidatingAdmissionPolicy 'x' denied request: a Job must have an owner"), RefusalForbidden, true},
		"no namespace":                {apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, "tenant-acme"), RefusalNotFound, false},
		"a conflict":                  {apierrors.NewConflict(jobs, "report", errors.New("changed")), RefusalOther, false},
		"too many requests":           {apierrors.NewTooManyRequests("later", 1), RefusalOther, false},
		"wrapped":                     {fmt.Errorf("creating Job report: %w", apierrors.NewBadRequest("unknown field")), RefusalInvalid, true},
		"another answer":              {&apierrors.StatusError{ErrStatus: metav1.Status{Code: http.StatusMethodNotAllowed}}, RefusalOther, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := RefusalOf(tc.err)
			if got != tc.want || got.IsAboutObject() != tc.object {
				t.Errorf("got %q, about the object: %t; want %q, %t", got, got.IsAboutObject(), tc.want, tc.object)
			}
		})
	}
}

// TestMessageOfIsShort: an error that quotes a megabyte does not stay in memory.
func TestMessageOfIsShort(t *testing.T) {
	t.Parallel()
	long := apierrors.NewBadRequest(strings.Repeat("x", 1<<20))
	for name, err := range map[string]error{"an answer": fmt.Errorf("creating: %w", long), "no answer": errors.New(long.Error())} {
		if got := MessageOf(err); len(got) != conditions.MaxMessage {
			t.Errorf("%s: %d bytes", name, len(got))
		}
	}
	if got := MessageOf(fmt.Errorf("creating: %w", apierrors.NewBadRequest("unknown field"))); got != "unknown field" {
		t.Errorf("got %q", got)
	}
}
