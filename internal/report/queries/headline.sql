-- Run in the directory of a dataset: duckdb < headline.sql

-- query verdicts: how many measured targets got each verdict, and what share
select verdict, count(*) as count, count(*) / sum(count(*)) over () as share
from 'measurements/*.parquet' where outcome = 'measured'
group by verdict order by verdict;

-- query probe: verdicts by probe
select probe as key, verdict, count(*) as count
from 'measurements/*.parquet' where outcome = 'measured'
group by all order by all;

-- query port: verdicts by port
select port::varchar as key, verdict, count(*) as count
from 'measurements/*.parquet' where outcome = 'measured'
group by all order by all;

-- query family: verdicts by IP version
select case family when 0 then 'none' else 'ipv' || family end as key, verdict, count(*) as count
from 'measurements/*.parquet' where outcome = 'measured'
group by all order by all;

-- query faults: measured targets with a fault, and the noise beside it: plain failed and Fast Open worked
select
  count(*) filter (verdict in ('cookie_only', 'data_truncated', 'cookie_unstable', 'option_dropped', 'data_dropped', 'reset',
                               'flow_blackholed', 'blackholed_after_handshake', 'client_blocked')) as fault,
  count(*) filter (list_contains(conditions, 'tfo.connectivity.transient')) as noise
from 'measurements/*.parquet' where outcome = 'measured';

-- query interval: the 95 % interval of each share, by Wilson
with v as (
  select verdict, count(*) as k, sum(count(*)) over () as n, 1.959963984540054 as z
  from 'measurements/*.parquet' where outcome = 'measured' group by verdict)
select verdict,
  (k / n + z * z / (2 * n) - z * sqrt(k / n * (1 - k / n) / n + z * z / (4 * n * n))) / (1 + z * z / n) as low,
  (k / n + z * z / (2 * n) + z * sqrt(k / n * (1 - k / n) / n + z * z / (4 * n * n))) / (1 + z * z / n) as high
from v order by verdict;

-- query saved: time to first byte that Fast Open saved, in µs, and as a part of a plain handshake's round trip
select count(saved_us) as n, quantile_cont(saved_us, [0.1, 0.5, 0.9]) as saved_us,
  quantile_cont(saved_us / plain_connect_us, 0.5) as share_of_rtt
from 'measurements/*.parquet' where outcome = 'measured' and verdict = 'supported';

-- query conditions: measured targets that carry each condition
select condition, count(*) as count
from (select unnest(conditions) as condition from 'measurements/*.parquet' where outcome = 'measured')
group by condition order by count desc, condition;

-- query targets: targets by how many verdicts were given to them; one, by several probes, is stable
select verdicts, count(*) as targets
from (select item, count(distinct verdict) as verdicts
      from 'measurements/*.parquet' where outcome = 'measured' and verdict <> 'inconclusive'
      group by item having count(*) > 1)
group by verdicts order by verdicts;
