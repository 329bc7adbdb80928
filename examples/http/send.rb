# Submit one lead over HTTP: `INTAKE_KEY=vdk_… ruby send.rb`. Needs Ruby 3 and no gem, and a running `dispatcher intake`.
require "json"
require "net/http"

URL = URI("#{ENV.fetch("INTAKE_URL", "http://127.0.0.1:8322")}/v1/leads")

def submit(lead, idempotency_key)
  headers = {
    "Authorization" => "Bearer #{ENV.fetch("INTAKE_KEY")}",
    "Content-Type" => "application/json",
    "Idempotency-Key" => idempotency_key
  }
  1.upto(5) do |attempt|
    begin
      answer = Net::HTTP.start(URL.host, URL.port, use_ssl: URL.scheme == "https", read_timeout: 30) do |http|
        http.post(URL.path, JSON.generate(lead), headers)
      end
    rescue SystemCallError, IOError, Timeout::Error
      raise if attempt == 5
      sleep attempt # no answer: the same key makes the repetition safe
      next
    end
    return JSON.parse(answer.body) if answer.is_a?(Net::HTTPSuccess)
    raise answer.body if attempt == 5 || !%w[429 500 503].include?(answer.code)
    sleep((answer["Retry-After"] || attempt).to_i)
  end
end

told = submit({ phone_number: "+14155550142", campaign_id: 42, variables: { customer_name: "Ada" } }, "order-7")
puts "#{told["id"]} #{told["state"]}"
