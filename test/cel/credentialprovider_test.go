package cel_test

import "strings"

const exactlyOne = "`spec` must have exactly one of secret, serviceAccountToken, postgres"

var credentialProviderRules = join(
	subdomainRules("adminSecretRef", "spec", "{postgres: {adminSecretRef: {name: %s}, host: a, database: a}}"),
	subdomainRules("caSecretRef", "spec", "{postgres: {adminSecretRef: {name: a}, host: a, database: a, caSecretRef: {name: %s}}}"),
	textRules("host", "spec", "{postgres: {adminSecretRef: {name: a}, host: %s, database: a}}",
		"^[A-Za-z0-9:]([A-Za-z0-9:.-]*[A-Za-z0-9])?$", "fd00::1", []string{"a b", "/run/postgresql", "a?sslmode=disable"}, 253),
	postgresNumberRules("connectionLimit", 1, 1000),
	postgresNumberRules("maxLifetimeSeconds", 60, 604800),
	postgresNumberRules("port", 1, 65535),
	inValue("spec", "{serviceAccountToken: {audience: a, %s}}", numberRules("expirationSeconds", 600, 86400)),
	rules{
		"no spec":       {"spec", absent, "{secret: {}}", "Required value"},
		"nothing":       {"spec", "{}", "{secret: {}}", exactlyOne},
		"two":           {"spec", "{secret: {}, serviceAccountToken: {audience: a}}", "{serviceAccountToken: {audience: a}}", exactlyOne},
		"no audience":   {"spec", "{serviceAccountToken: {}}", "{serviceAccountToken: {audience: a}}", "audience: Required value"},
		"audience is a": {"spec", `{serviceAccountToken: {audience: ""}}`, "{serviceAccountToken: {audience: a}}", "should be at least 1 chars long"},
		"audience is too long": {
			"spec", "{serviceAccountToken: {audience: " + strings.Repeat("a", 254) + "}}",
			"{serviceAccountToken: {audience: " + strings.Repeat("a", 253) + "}}", "may not be more than 253",
		},
		"postgres without secret":   postgres("host: a, database: a", "adminSecretRef: Required value"),
		"postgres without host":     postgres("adminSecretRef: {name: a}, database: a", "host: Required value"),
		"postgres without database": postgres("adminSecretRef: {name: a}, host: a", "database: Required value"),
		"postgres with a secret without name": postgres("adminSecretRef: {}, host: a, database: a",
			"adminSecretRef.name: Required value"),
		"postgres with a CA without name": postgres("adminSecretRef: {name: a}, host: a, database: a, caSecretRef: {}",
			"caSecretRef.name: Required value"),
		"postgres with an empty database": postgres(`adminSecretRef: {name: a}, host: a, database: ""`,
			"should be at least 1 chars long"),
		"postgres with a long database": postgres("adminSecretRef: {name: a}, host: a, database: "+strings.Repeat("a", 64),
			"may not be more than 63"),
		"postgres with a database of too many bytes": postgres("adminSecretRef: {name: a}, host: a, database: "+strings.Repeat("ä", 32),
			"`database` must have at most 63 bytes"),
		"postgres with a mode of its own": postgres("adminSecretRef: {name: a}, host: a, database: a, sslMode: prefer",
			`supported values: "disable", "require", "verify-ca", "verify-full"`),
	},
)

// postgres is a rule of a provider of that kind.
func postgres(refused, want string) rule {
	return rule{
		"spec", "{postgres: {" + refused + "}}",
		"{postgres: {adminSecretRef: {name: a}, host: a, database: " + strings.Repeat("a", 63) + ", sslMode: verify-ca}}", want,
	}
}

func postgresNumberRules(field string, least, most int) rules {
	return inValue("spec", "{postgres: {adminSecretRef: {name: a}, host: a, database: a, %s}}", numberRules(field, least, most))
}

// inValue returns rules whose field is within the value of another, where %s stands.
func inValue(at, value string, table rules) rules {
	moved := rules{}
	for name, r := range table {
		moved[name] = rule{at, fill(value, r.at+": "+r.refused), fill(value, r.at+": "+r.accepted), r.want}
	}
	return moved
}
