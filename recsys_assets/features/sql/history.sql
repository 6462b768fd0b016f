-- Statistics of the user and of the item just before each row (point in time).
--
-- `events`: rows to describe (user_id, item_id, timestamp, seq, label, value, oracle, and what they carry of user and
-- item, carried_0, carried_1, ...); and rows of a user or an item alone, which come last and have no label: their
-- history is the snapshot that serving reads.
-- `user_sums` and `item_sums` have the sums over all rows of earlier runs. `kept_of_users` and `kept_of_items` have the
-- newest of these rows, as many as the longest frame of a user or an item of `events` needs, with what their own run
-- found (newest_label, newest_above_item, ...). A first run has no sums and no kept rows: all rows at once get the same
-- statistics as one day after the other.
--
-- "Before" is the order (timestamp, seq); every frame ends one row earlier, so no row sees its own label.
-- Sums are over whole numbers (labels; rates and residuals in millionths; ratings, `value`, in units of 1 / $unit), so
-- they are exact in any order. Means and deviations of ratings are over the rows that have one.

-- Counts, and positive rates shrunk towards the rate of all rows so far, as if $item_prior more rows of the item and
-- $user_prior more rows of the user had that rate.
CREATE OR REPLACE TEMP TABLE counted AS
SELECT new.* EXCLUDE (day, n_so_far, positives_so_far) REPLACE (
        coalesce(of_user.n, 0) + user_n AS user_n,
        coalesce(of_item.n, 0) + item_n AS item_n,
        coalesce(of_user.rated, 0) + user_rated AS user_rated,
        coalesce(of_item.rated, 0) + item_rated AS item_rated,
        coalesce(of_user.positives, 0) + user_positives AS user_positives,
        coalesce(of_item.positives, 0) + item_positives AS item_positives,
        coalesce(of_user.value, 0) + user_value AS user_value,
        coalesce(of_item.value, 0) + item_value AS item_value,
        coalesce(of_user.squares, 0) + user_squares AS user_squares,
        coalesce(of_item.squares, 0) + item_squares AS item_squares),
    (everything.positives + of_days.positives + positives_so_far + 1) / (everything.n + of_days.n + n_so_far + 2)
        AS base_rate
FROM (
    SELECT *, date_trunc('day', timestamp) AS day,
        count(label) OVER user_past AS user_n,
        count(label) OVER item_past AS item_n,
        count(value) OVER user_past AS user_rated,
        count(value) OVER item_past AS item_rated,
        coalesce(sum(label) OVER user_past, 0)::BIGINT AS user_positives,
        coalesce(sum(label) OVER item_past, 0)::BIGINT AS item_positives,
        coalesce(sum(value) OVER user_past, 0) AS user_value,
        coalesce(sum(value) OVER item_past, 0) AS item_value,
        coalesce(sum(value::HUGEINT * value) OVER user_past, 0) AS user_squares,
        coalesce(sum(value::HUGEINT * value) OVER item_past, 0) AS item_squares,
        count(label) OVER that_day AS n_so_far,
        coalesce(sum(label) OVER that_day, 0) AS positives_so_far
    FROM events
    WINDOW
        that_day AS (
            PARTITION BY date_trunc('day', timestamp)
            ORDER BY timestamp, seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING),
        user_past AS (PARTITION BY user_id ORDER BY timestamp, seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING),
        item_past AS (PARTITION BY item_id ORDER BY timestamp, seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
) AS new
    LEFT JOIN user_sums AS of_user ON of_user.user_id = new.user_id
    LEFT JOIN item_sums AS of_item ON of_item.item_id = new.item_id
    -- the days before, as one window over all rows would be the work of one machine
    JOIN (
        SELECT day, coalesce(sum(n) OVER earlier, 0) AS n, coalesce(sum(positives) OVER earlier, 0) AS positives
        FROM (
            SELECT date_trunc('day', timestamp) AS day, count(label) AS n, coalesce(sum(label), 0) AS positives
            FROM events GROUP BY ALL
        ) WINDOW earlier AS (ORDER BY day ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
    ) AS of_days ON of_days.day = new.day,
    (SELECT coalesce(sum(n), 0) AS n, coalesce(sum(positives), 0) AS positives FROM item_sums) AS everything;
DROP TABLE events;

-- Numbers that a row adds to the statistics of later rows.
CREATE OR REPLACE TEMP TABLE rated AS
SELECT *,
    (user_positives + $user_prior * base_rate) / (user_n + $user_prior) AS user_rate,
    (item_positives + $item_prior * base_rate) / (item_n + $item_prior) AS item_rate,
    CAST(1e6 * (label - item_rate) AS BIGINT) AS above_item,
    CAST(1e6 * (label - user_rate) AS BIGINT) AS above_user,
    CASE WHEN label IS NOT NULL THEN CAST(1e6 * item_rate AS BIGINT) END AS rate_of_item,
    CASE WHEN label IS NOT NULL THEN CAST(1e6 * user_rate AS BIGINT) END AS rate_of_user,
    CASE WHEN label IS NOT NULL THEN CAST(1e6 * ln(1 + item_n) AS BIGINT) END AS count_of_item,
    CASE WHEN label IS NOT NULL THEN CAST(1e6 * ln(1 + user_n) AS BIGINT) END AS count_of_user,
    label AS newest_label,
    above_item AS newest_above_item,
    above_user AS newest_above_user,
    rate_of_item AS newest_rate_of_item
FROM counted;
DROP TABLE counted;

-- Kept rows have no label here, as the sums have them already: they are in the frames over the newest rows alone.
CREATE OR REPLACE TEMP TABLE history AS
SELECT new.user_id, new.item_id, timestamp, seq, label, oracle,
    -- for drawn rows, which take the item's side from its next row: only its rate depends on the moment of that row
    -- (and for impressions, which take the user's side from the user's next row)
    base_rate, item_n, item_positives, user_n, user_positives,
    -- the user: all rows so far, then the newest ones
    ln(1 + user_n)::FLOAT AS user_count,
    user_rate::FLOAT AS user_positive_rate,
    ((coalesce(of_user.above, 0) + user_above) / 1e6 / (user_n + $user_prior))::FLOAT AS user_bias,
    user_positive_rate_3, user_positive_rate_10, user_positive_rate_30, user_bias_10, user_bias_30,
    ((coalesce(of_user.rates, 0) + user_rates) / 1e6 / nullif(user_n, 0))::FLOAT AS user_item_rate,
    user_item_rate_10,
    ((coalesce(of_user.counts, 0) + user_counts) / 1e6 / nullif(user_n, 0))::FLOAT AS user_item_count,
    (user_value / $unit / nullif(user_rated, 0))::FLOAT AS user_rating_mean,
    (sqrt(user_rated * user_squares - user_value::HUGEINT * user_value) / $unit / nullif(user_rated, 0))::FLOAT
        AS user_rating_std,
    -- the item
    ln(1 + item_n)::FLOAT AS item_count,
    item_rate::FLOAT AS item_positive_rate,
    ((coalesce(of_item.above, 0) + item_above) / 1e6 / (item_n + $item_prior))::FLOAT AS item_bias,
    item_positive_rate_50, item_bias_100,
    ((coalesce(of_item.rates, 0) + item_rates) / 1e6 / nullif(item_n, 0))::FLOAT AS item_user_rate,
    ((coalesce(of_item.counts, 0) + item_counts) / 1e6 / nullif(item_n, 0))::FLOAT AS item_user_count,
    (item_value / $unit / nullif(item_rated, 0))::FLOAT AS item_rating_mean,
    (sqrt(item_rated * item_squares - item_value::HUGEINT * item_value) / $unit / nullif(item_rated, 0))::FLOAT
        AS item_rating_std
    $columns
FROM (
    SELECT of_items.*,
        coalesce(sum(above_item) OVER user_past, 0) AS user_above,
        coalesce(sum(rate_of_item) OVER user_past, 0) AS user_rates,
        coalesce(sum(count_of_item) OVER user_past, 0) AS user_counts,
        (avg(newest_label) OVER user_3)::FLOAT AS user_positive_rate_3,
        (avg(newest_label) OVER user_10)::FLOAT AS user_positive_rate_10,
        (avg(newest_label) OVER user_30)::FLOAT AS user_positive_rate_30,
        (sum(newest_above_item) OVER user_10 / 1e6 / least(user_n, 10))::FLOAT AS user_bias_10,
        (sum(newest_above_item) OVER user_30 / 1e6 / least(user_n, 30))::FLOAT AS user_bias_30,
        (sum(newest_rate_of_item) OVER user_10 / 1e6 / least(user_n, 10))::FLOAT AS user_item_rate_10
        $user_windows
    FROM (
        SELECT *,
            coalesce(sum(above_user) OVER item_past, 0) AS item_above,
            coalesce(sum(rate_of_user) OVER item_past, 0) AS item_rates,
            coalesce(sum(count_of_user) OVER item_past, 0) AS item_counts,
            (avg(newest_label) OVER item_50)::FLOAT AS item_positive_rate_50,
            (sum(newest_above_user) OVER item_100 / 1e6 / least(item_n, 100))::FLOAT AS item_bias_100
            $item_windows
        FROM (SELECT *, false AS kept FROM rated UNION ALL BY NAME SELECT *, true AS kept FROM kept_of_items)
        WINDOW
            item_past AS (PARTITION BY item_id ORDER BY timestamp, seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING),
            item_50 AS (PARTITION BY item_id ORDER BY timestamp, seq ROWS BETWEEN 50 PRECEDING AND 1 PRECEDING),
            item_100 AS (PARTITION BY item_id ORDER BY timestamp, seq ROWS BETWEEN 100 PRECEDING AND 1 PRECEDING)
        QUALIFY NOT kept
        UNION ALL BY NAME SELECT *, true AS kept FROM kept_of_users
    ) AS of_items LEFT JOIN item_terms USING (item_id)
    WINDOW
        user_past AS (PARTITION BY user_id ORDER BY timestamp, seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING),
        user_3 AS (PARTITION BY user_id ORDER BY timestamp, seq ROWS BETWEEN 3 PRECEDING AND 1 PRECEDING),
        user_10 AS (PARTITION BY user_id ORDER BY timestamp, seq ROWS BETWEEN 10 PRECEDING AND 1 PRECEDING),
        user_30 AS (PARTITION BY user_id ORDER BY timestamp, seq ROWS BETWEEN 30 PRECEDING AND 1 PRECEDING),
        user_recent AS (PARTITION BY user_id ORDER BY timestamp, seq ROWS BETWEEN $window PRECEDING AND 1 PRECEDING)
) AS new
    LEFT JOIN user_sums AS of_user ON of_user.user_id = new.user_id
    LEFT JOIN item_sums AS of_item ON of_item.item_id = new.item_id
WHERE NOT kept;
