-- query joint: pairs of a mesh by joint verdict and direction
select verdict, direction, count(*) as pairs
from 'mesh/*.parquet' group by all order by all;

-- query asymmetric: pairs of probes that differ by who connects to whom
select x.port, x.family, x.client as a, x.server as b, x.verdict as a_to_b, y.verdict as b_to_a
from 'mesh/*.parquet' x join 'mesh/*.parquet' y
  on x.mesh = y.mesh and x.port = y.port and x.family = y.family and x.client = y.server and x.server = y.client
where x.client < y.client and x.verdict not in ('inconclusive', 'peer_lost') and y.verdict not in ('inconclusive', 'peer_lost')
  and (x.verdict <> y.verdict or x.direction is distinct from y.direction)
order by all;

-- query rewrites: what paths change in SYNs, in how many pairs; routers count the TTL down, and addresses are NAT's
select split_part(difference, ' ', 1) as field, case when contains(difference, ' -> - (') then 'removed'
  when contains(difference, ' - -> ') then 'added' else 'rewritten' end as change, count(distinct item) as pairs
from (select item, unnest(differences) as difference from 'mesh/*.parquet' where joined > 0 and verdict <> 'proxied')
where field not in ('ttl', 'source_address', 'source_port')
group by field, change order by pairs desc, field, change;
