package postgres

import (
	"net"
	"net/url"
	"strconv"

	"github.com/tenantry/tenantry/internal/credential"
)

// bindingType is the key `type` of the binding, as the Service Binding specification suggests it.
const bindingType = "postgresql"

// values returns the files of the binding: the well-known keys of the Service Binding specification and, as libpq calls them, sslmode.
func (p *Provider) values(t target, role, password string) credential.Values {
	port := strconv.Itoa(int(p.Port))
	v := credential.Values{
		"host":     []byte(p.Host),
		"port":     []byte(port),
		"database": []byte(t.database),
		"username": []byte(role),
		"password": []byte(password),
		"sslmode":  []byte(p.SSLMode),
	}
	if t.schema != "" {
		v["schema"] = []byte(t.schema)
	}
	if len(p.CA) > 0 {
		// A URI would have to name this file, and only the container knows where it is.
		v["ca.crt"] = p.CA
		return v
	}
	uri := url.URL{
		Scheme:   "postgresql",
		User:     url.UserPassword(role, password),
		Host:     net.JoinHostPort(p.Host, port),
		Path:     "/" + t.database,
		RawQuery: url.Values{"sslmode": {string(p.SSLMode)}}.Encode(),
	}
	v["uri"] = []byte(uri.String())
	return v
}
