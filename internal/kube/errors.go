package kube

import (
	"errors"
	"net/http"
	"regexp"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/tenantry/tenantry/internal/conditions"
)

// StaleAfter is when a controller looks again after a conflict: another leader, or a cache that is behind.
const StaleAfter = 50 * time.Millisecond

// RetryConflict hides a conflict, and that the object is gone: both mean that the cache was behind, and the watch brings
// what there is now.
func RetryConflict(err error) (reconcile.Result, error) {
	if apierrors.IsConflict(err) {
		return reconcile.Result{RequeueAfter: StaleAfter}, nil
	}
	return reconcile.Result{}, client.IgnoreNotFound(err)
}

// Refusal is why the API server did not do a write.
type Refusal string

const (
	// NotRefused means that there is no error.
	NotRefused Refusal = ""
	// RefusalUnknown means that there is no answer, or one of a server in trouble (5xx): the write may have been done.
	RefusalUnknown Refusal = "Unknown"
	// RefusalInvalid means that the object can't be written as it is, now or later.
	RefusalInvalid Refusal = "Invalid"
	// RefusalQuota means that a ResourceQuota of the namespace is full, or that its use is not known yet.
	RefusalQuota Refusal = "Quota"
	// RefusalTerminating means that the namespace is being deleted.
	RefusalTerminating Refusal = "Terminating"
	// RefusalNotFound means that the object, or its namespace, is gone.
	RefusalNotFound Refusal = "NotFound"
	// RefusalOperator means that the operator lacks a right, or that the service account of a dry run's pod does not exist in the
	// operator's namespace yet. The object is not to blame.
	RefusalOperator Refusal = "Operator"
	// RefusalForbidden means that something else forbids it: an admission policy, say.
	RefusalForbidden Refusal = "Forbidden"
	// RefusalOther is any other answer of the range 4xx: a conflict, say, or too many requests.
	RefusalOther Refusal = "Other"
)

// RefusalOf classifies the error of a write.
func RefusalOf(err error) Refusal {
	var status apierrors.APIStatus
	switch {
	case err == nil:
		return NotRefused
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return RefusalInvalid
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return RefusalTerminating
	case apierrors.IsNotFound(err):
		return RefusalNotFound
	case apierrors.IsForbidden(err):
		return forbidden(err.Error())
	case errors.As(err, &status) && status.Status().Code >= http.StatusBadRequest && status.Status().Code < http.StatusInternalServerError:
		return RefusalOther
	}
	return RefusalUnknown
}

// missingRight matches what the API server says of a user who lacks a right.
var missingRight = regexp.MustCompile(`User .*cannot \w+ resource\b`)

func forbidden(message string) Refusal {
	switch {
	case strings.Contains(message, "exceeded quota"), strings.Contains(message, "status unknown for quota"):
		return RefusalQuota
	case strings.Contains(message, "is being terminated"):
		return RefusalTerminating
	case missingRight.MatchString(message), strings.Contains(message, "error looking up service account"):
		return RefusalOperator
	}
	return RefusalForbidden
}

// IsAboutObject says whether a dry run in the operator's namespace was refused because of what the object says: a full quota
// there counts as that, too. It is false when the operator lacks a right, or its namespace is terminating.
func (r Refusal) IsAboutObject() bool {
	return r == RefusalInvalid || r == RefusalForbidden || r == RefusalQuota
}

// MessageOf is what the API server says in an error, without what was wrapped around it. It is cut to what a condition holds,
// because it may quote what a tenant's member has written.
func MessageOf(err error) string {
	message := err.Error()
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		message = status.Status().Message
	}
	return conditions.Cut(message, conditions.MaxMessage)
}
