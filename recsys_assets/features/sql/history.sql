-- Statistics of the user and of the item just before each row (point in time).
--
-- `events`: the offline rows (user_id, item_id, timestamp, seq, label, part, value, oracle, and what they carry of user
-- and item, carried_0, carried_1, ...), and for each user and each item one row just after the newest event, with no label, whose history is the snapshot that serving reads.
-- "Before" is the order (timestamp, seq); every frame ends one row earlier, so no row sees its own label.
-- Sums are over whole numbers (labels; rates and residuals in millionths; ratings, `value`, in units of 1 / $unit), so
-- they are exact in any order. Means and deviations of ratings are over the rows that have one.

-- Counts, and positive rates shrunk towards the rate of all rows so far, as if $item_prior more rows of the item and
-- $user_prior more rows of the user had that rate.
CREATE OR REPLACE TEMP TABLE counted AS
SELECT *,
    count(label) OVER user_past AS user_n,
    count(label) OVER item_past AS item_n,
    count(value) OVER user_past AS user_rated,
    count(value) OVER item_past AS item_rated,
    (coalesce(sum(label) OVER everyone, 0) + 1) / (count(label) OVER everyone + 2) AS base_rate,
    coalesce(sum(label) OVER user_past, 0) AS user_positives,
    (user_positives + $user_prior * base_rate) / (user_n + $user_prior) AS user_rate,
    coalesce(sum(label) OVER item_past, 0) AS item_positives,
    (item_positives + $item_prior * base_rate) / (item_n + $item_prior) AS item_rate
FROM events
WINDOW
    everyone AS (ORDER BY timestamp, seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING),
    user_past AS (PARTITION BY user_id ORDER BY timestamp, seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING),
    item_past AS (PARTITION BY item_id ORDER BY timestamp, seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING);
DROP TABLE events;

CREATE OR REPLACE TEMP TABLE rated AS
SELECT *,
    CAST(1e6 * (label - item_rate) AS BIGINT) AS above_item,
    CAST(1e6 * (label - user_rate) AS BIGINT) AS above_user,
    CAST(1e6 * item_rate AS BIGINT) AS rate_of_item,
    CAST(1e6 * user_rate AS BIGINT) AS rate_of_user,
    CAST(1e6 * ln(1 + item_n) AS BIGINT) AS count_of_item,
    CAST(1e6 * ln(1 + user_n) AS BIGINT) AS count_of_user
FROM counted;
DROP TABLE counted;

CREATE OR REPLACE TEMP TABLE history AS
SELECT user_id, item_id, timestamp, seq, label, part, oracle,
    -- for drawn rows, which take the item's side from its next row: only its rate depends on the moment of that row
    -- (and for impressions, which take the user's side from the user's next row)
    base_rate, item_n, item_positives, user_n, user_positives,
    -- the user: all rows so far, then the newest ones
    ln(1 + user_n)::FLOAT AS user_count,
    user_rate::FLOAT AS user_positive_rate,
    (coalesce(sum(above_item) OVER user_past, 0) / 1e6 / (user_n + $user_prior))::FLOAT AS user_bias,
    (avg(label) OVER user_3)::FLOAT AS user_positive_rate_3,
    (avg(label) OVER user_10)::FLOAT AS user_positive_rate_10,
    (avg(label) OVER user_30)::FLOAT AS user_positive_rate_30,
    (sum(above_item) OVER user_10 / 1e6 / least(user_n, 10))::FLOAT AS user_bias_10,
    (sum(above_item) OVER user_30 / 1e6 / least(user_n, 30))::FLOAT AS user_bias_30,
    (sum(rate_of_item) OVER user_past / 1e6 / user_n)::FLOAT AS user_item_rate,
    (sum(rate_of_item) OVER user_10 / 1e6 / least(user_n, 10))::FLOAT AS user_item_rate_10,
    (sum(count_of_item) OVER user_past / 1e6 / user_n)::FLOAT AS user_item_count,
    (sum(value) OVER user_past / $unit / user_rated)::FLOAT AS user_rating_mean,
    (sqrt(user_rated * sum(value::HUGEINT * value) OVER user_past
        - (sum(value) OVER user_past) * (sum(value) OVER user_past)) / $unit / user_rated)::FLOAT AS user_rating_std,
    -- the item
    ln(1 + item_n)::FLOAT AS item_count,
    item_rate::FLOAT AS item_positive_rate,
    (coalesce(sum(above_user) OVER item_past, 0) / 1e6 / (item_n + $item_prior))::FLOAT AS item_bias,
    (avg(label) OVER item_50)::FLOAT AS item_positive_rate_50,
    (sum(above_user) OVER item_100 / 1e6 / least(item_n, 100))::FLOAT AS item_bias_100,
    (sum(rate_of_user) OVER item_past / 1e6 / item_n)::FLOAT AS item_user_rate,
    (sum(count_of_user) OVER item_past / 1e6 / item_n)::FLOAT AS item_user_count,
    (sum(value) OVER item_past / $unit / item_rated)::FLOAT AS item_rating_mean,
    (sqrt(item_rated * sum(value::HUGEINT * value) OVER item_past
        - (sum(value) OVER item_past) * (sum(value) OVER item_past)) / $unit / item_rated)::FLOAT AS item_rating_std
    $newest
    $term_counts
FROM rated LEFT JOIN item_terms USING (item_id)
WINDOW
    user_past AS (PARTITION BY user_id ORDER BY timestamp, seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING),
    user_3 AS (PARTITION BY user_id ORDER BY timestamp, seq ROWS BETWEEN 3 PRECEDING AND 1 PRECEDING),
    user_10 AS (PARTITION BY user_id ORDER BY timestamp, seq ROWS BETWEEN 10 PRECEDING AND 1 PRECEDING),
    user_30 AS (PARTITION BY user_id ORDER BY timestamp, seq ROWS BETWEEN 30 PRECEDING AND 1 PRECEDING),
    user_recent AS (PARTITION BY user_id ORDER BY timestamp, seq ROWS BETWEEN $window PRECEDING AND 1 PRECEDING),
    item_past AS (PARTITION BY item_id ORDER BY timestamp, seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING),
    item_50 AS (PARTITION BY item_id ORDER BY timestamp, seq ROWS BETWEEN 50 PRECEDING AND 1 PRECEDING),
    item_100 AS (PARTITION BY item_id ORDER BY timestamp, seq ROWS BETWEEN 100 PRECEDING AND 1 PRECEDING);
DROP TABLE rated;
