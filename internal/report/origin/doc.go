// Package origin says whose an address is: the AS that announces it and the
// country, from files that the user gives. It knows nothing by itself, and where
// the files say nothing neither does it.
//
// Files are MaxMind databases (.mmdb: GeoLite2 ASN and Country, and what others
// make in their form), or text of one prefix per line as it is made from RIB
// dumps, plain or compressed with gzip:
//
//	192.0.2.0/24,64500          prefix,asn
//	192.0.2.0/24,64500,DE       prefix,asn,country
//	192.0.2.0	24	64500       CAIDA's pfx2as
//
// Fields may be parted by commas, tabs or blanks; "AS64500" is an AS as well. Of
// a prefix that several ASes announce the first that the line names is taken.
//
// What may not enter: the network.
package origin
